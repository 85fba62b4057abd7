"""The average of the weights: its formula, where it is used, and that it survives."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import batches
from strategies import build, given, register_all, same_weights, weights
from torch import Tensor, nn

import argus_core
from argus_core import Model, ParamsError, State, StateMismatchError, on_epoch_complete, on_iteration_complete
from argus_core.steps.ema import EMA

DECAY = 0.9
STEADY = ("ema", {"decay": DECAY, "warmup": False})


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        register_all()
        argus_core.register("nn_module", "normed", normed)
        yield


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


def averages(model: Model) -> Tensor:
    """Return the weights that evaluation uses, in one vector."""
    with model.evaluation():
        return weights(model)


def weights_of_each_update(steps: list[Any]) -> list[Tensor]:
    """Return the weights at the start and after each update."""
    model = build(*steps)
    seen = [weights(model)]
    keep = on_iteration_complete(lambda state: seen.append(weights(state.model)))
    model.fit(batches(), num_epochs=2, callbacks=[keep])
    return seen


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_decay_is_from_0_to_below_1(decay: float) -> None:
    with pytest.raises(ParamsError, match="decay is .*; give a number of at least 0 and below 1"):
        EMA(decay)


def test_buffers_are_copied_or_averaged() -> None:
    with pytest.raises(ParamsError, match="buffers is 'keep'; give 'copy' or 'average'"):
        EMA(buffers="keep")


@pytest.mark.parametrize("warmup", [False, True])
def test_it_equals_its_formula_by_hand(warmup: bool) -> None:
    first, *later = weights_of_each_update([])
    expected = first.double()
    for update, value in enumerate(later, start=1):
        decay = min(DECAY, (1 + update) / (10 + update)) if warmup else DECAY
        expected = decay * expected + (1 - decay) * value.double()
    model = build(("ema", {"decay": DECAY, "warmup": warmup}))
    model.fit(batches(), num_epochs=2)
    torch.testing.assert_close(averages(model).double(), expected, rtol=0, atol=1e-6)


def test_training_goes_its_own_way() -> None:
    model, plain = build(STEADY), build()
    for each in (model, plain):
        each.fit(batches(), val_loader=batches(), num_epochs=3)
    assert same_weights(model, plain)


def test_validation_prediction_and_a_single_val_step_use_the_average() -> None:
    model, data = build(STEADY), batches()
    model.fit(data)
    twin = build()
    nn.utils.vector_to_parameters(averages(model), twin.nn_module.parameters())
    assert torch.equal(model.predict(data[0][0]), twin.predict(data[0][0]))
    assert model.validate(data) == twin.validate(data)
    assert model.val_step(data[0])["loss"] == twin.val_step(data[0])["loss"]


def test_validation_within_fit_uses_the_average_of_that_moment() -> None:
    model, data = build(STEADY), batches()
    validated: list[float] = []
    again: list[float] = []

    @on_epoch_complete
    def validate_again(state: State) -> None:
        validated.append(state.metrics["val_loss"])
        again.append(state.model.validate(data)["val_loss"])

    model.fit(data, val_loader=data, num_epochs=3, callbacks=[validate_again])
    assert validated == again
    assert len(set(validated)) == 3


def test_a_prediction_within_a_validation_uses_the_average_too() -> None:
    model, data = build(STEADY), batches()
    model.fit(data)
    expected = model.predict(data[0][0])
    seen: list[Tensor] = []
    predict = on_iteration_complete(lambda state: seen.append(state.model.predict(data[0][0])))
    model.validate(data, callbacks=[predict])
    assert len(seen) == len(data)
    assert all(torch.equal(prediction, expected) for prediction in seen)
    assert torch.equal(model.predict(data[0][0]), expected)


def test_a_failed_evaluation_puts_the_weights_back() -> None:
    model = build(STEADY)
    model.fit(batches())
    start = weights(model)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model.predict(torch.ones(1, 99))
    assert torch.equal(weights(model), start)
    assert not torch.equal(averages(model), start)


def test_a_skipped_update_does_not_move_the_average() -> None:
    model = build(STEADY, ("veto", {"updates": [0, 1, 2]}))
    start = weights(model)
    model.fit(batches())
    assert torch.equal(averages(model), start)
    assert "ema" not in model.step_state()


def test_running_statistics_are_the_present_ones_unless_they_are_averaged() -> None:
    models = {
        buffers: build(("ema", {"decay": DECAY, "warmup": False, "buffers": buffers}), nn_module="normed")
        for buffers in ("copy", "average")
    }
    expected = torch.zeros(3)
    for batch in batches():
        for model in models.values():
            model.train_step(batch)
        expected = DECAY * expected + (1 - DECAY) * models["copy"].nn_module[1].running_mean
    present = models["copy"].nn_module[1].running_mean.clone()
    for buffers, mean in (("copy", present), ("average", expected)):
        with models[buffers].evaluation():
            torch.testing.assert_close(models[buffers].nn_module[1].running_mean, mean)
        assert torch.equal(models[buffers].nn_module[1].running_mean, present)


def test_half_precision_weights_are_averaged_in_float32() -> None:
    argus_core.register("nn_module", "half", lambda: nn.Linear(4, 3, dtype=torch.bfloat16))
    model = build(("ema", {"decay": 0.999, "warmup": False}), nn_module="half")
    data = [(input.bfloat16(), target) for input, target in batches((8,) * 20)]
    model.fit(data)
    state = model.step_state()["ema"]["averages"]
    assert {value.dtype for value in state.values()} == {torch.float32}
    with model.evaluation():
        assert model.nn_module.weight.dtype is torch.bfloat16
    start = build(nn_module="half").nn_module.weight
    assert not torch.equal(state["weight"].bfloat16().float(), state["weight"])  # finer than bfloat16 is
    assert not torch.equal(state["weight"], start.float())


def test_both_sets_are_saved_and_loaded(tmp_path: Path) -> None:
    model, data = build(STEADY), batches()
    model.fit(data)
    model.save(tmp_path / "model.safetensors")
    loaded = argus_core.load_model(tmp_path / "model.safetensors", loss=None, optimizer=None)
    assert same_weights(loaded, model)
    assert torch.equal(averages(loaded), averages(model))
    assert torch.equal(loaded.predict(data[0][0]), model.predict(data[0][0]))


def test_a_loaded_average_goes_on(tmp_path: Path) -> None:
    model, data = build(("ema", {"decay": DECAY})), batches()
    model.fit(data)
    model.save(tmp_path / "model.safetensors", optimizer_state=True)
    loaded = argus_core.load_model(tmp_path / "model.safetensors")
    for each in (model, loaded):
        each.fit(data)
    assert torch.equal(averages(loaded), averages(model))


def test_without_the_strategy_a_checkpoint_predicts_with_the_trained_weights(tmp_path: Path) -> None:
    model = build(STEADY)
    model.fit(batches())
    model.save(tmp_path / "model.safetensors")
    loaded = argus_core.load_model(tmp_path / "model.safetensors", step=None)
    assert torch.equal(averages(loaded), weights(model))


def test_what_is_saved_within_a_validation_has_the_trained_weights(tmp_path: Path) -> None:
    model = build(STEADY)
    save = on_epoch_complete(lambda state: state.model.save(tmp_path / "model.safetensors"))
    model.fit(batches(), val_loader=batches(), val_callbacks=[save])
    loaded = argus_core.load_model(tmp_path / "model.safetensors")
    assert same_weights(loaded, model)
    assert torch.equal(averages(loaded), averages(model))


def test_an_average_of_another_network_is_refused(tmp_path: Path) -> None:
    model = build(STEADY)
    model.fit(batches())
    model.save(tmp_path / "model.safetensors")
    with pytest.raises(
        StateMismatchError,
        match=r"stored averages of step 'ema' do not fit the network: 'hidden.weight' is "
        r"\(8, 4\) in the file and \(9, 4\) in the network; .* load with step=None",
    ):
        argus_core.load_model(
            tmp_path / "model.safetensors",
            nn_module={"hidden": 9},
            change_state_dict_func=lambda nn_state, _: (
                build(nn_module=("net", {"hidden": 9})).nn_module.state_dict(),
                None,
            ),
        )


def test_a_damaged_state_is_refused_with_the_strategy_named() -> None:
    with pytest.raises(
        StateMismatchError,
        match=r"state does not fit step strategy 'ema' \(argus-torch .*'averages' is missing.* step=None",
    ):
        build(STEADY).load_step_state({"ema": {"updates": 1}})


def test_the_average_moves_to_another_device_and_stays() -> None:
    model = build(STEADY)
    model.fit(batches())
    before = averages(model)
    model.set_device("cpu")
    assert torch.equal(averages(model), before)


def test_an_interrupted_start_of_an_evaluation_puts_the_weights_back() -> None:
    class Broken:
        @argus_core.hookimpl(trylast=True)
        def evaluation_context(self) -> Any:
            raise RuntimeError("no evaluation today")

    model = build(STEADY, given(Broken()))
    model.fit(batches())
    start = weights(model)
    with pytest.raises(RuntimeError, match="no evaluation today"):
        model.predict(torch.ones(1, 4))
    assert torch.equal(weights(model), start)
    model.train_step(batches()[0])


def test_an_average_that_joins_a_run_begins_with_the_weights_of_that_moment(tmp_path: Path) -> None:
    trained = build()
    checkpoint = ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True})
    trained.fit(batches(), callbacks=[checkpoint])
    joined, seen = build(STEADY), []
    note = argus_core.on_start(lambda state: seen.append(averages(state.model)))
    with pytest.warns(argus_core.errors.ArgusWarning, match=r"params\['step'\] was"):
        joined.fit(batches(), num_epochs=2, callbacks=[note], resume=tmp_path)
    assert torch.equal(seen[0], weights(trained))


def test_warmup_is_yes_or_no() -> None:
    with pytest.raises(ParamsError, match="warmup is 'no'; give True or False"):
        EMA(warmup="no")  # type: ignore[arg-type]


def trained_without_evaluation(*, nested: bool) -> tuple[Model, list[float]]:
    """Train for two epochs, with updates in between: from a callback of the validation, or after it."""
    model, losses = build(STEADY), []

    def more(state: State | None = None) -> None:
        losses.append(model.fit(batches((3,)), batches((4,)))["val_loss"])
        model.train_step(batches((2,))[0])

    if nested:
        once = argus_core.on_epoch_start(more)
        model.fit(batches(), batches(), val_callbacks=[once])
    else:
        model.fit(batches())
        more()
        losses.append(model.validate(batches())["val_loss"])
    return model, losses


def test_training_in_a_callback_of_the_validation_trains_the_weights_and_not_their_averages() -> None:
    nested, first = trained_without_evaluation(nested=True)
    apart, second = trained_without_evaluation(nested=False)
    assert first == second[:1]
    assert same_weights(nested, apart)
    assert_same_averages(nested, apart)
    assert nested.validate(batches())["val_loss"] == second[1]


def test_a_copy_that_is_made_in_a_validation_is_one_of_the_model_as_it_is_trained() -> None:
    copies: list[Model] = []
    keep = argus_core.on_iteration_complete(lambda state: copies.append(copy.deepcopy(state.model)))
    model, other = build(STEADY), build(STEADY)
    model.fit(batches(), batches((4,)), val_callbacks=[keep])
    other.fit(batches())
    (copied,) = copies
    assert same_weights(copied, other)
    assert_same_averages(copied, other)
    assert copied.validate(batches()) == other.validate(batches())
    for each in (copied, other):
        each.fit(batches())
    assert same_weights(copied, other)
    assert not same_weights(copied, model)


def assert_same_averages(one: Model, other: Model) -> None:
    ours, theirs = (model.step_state()["ema"]["averages"] for model in (one, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


class Mixed(nn.Module):
    """Running statistics beside buffers and a frozen parameter of every sort."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.instance = nn.InstanceNorm1d(4, track_running_stats=True)
        self.old = nn.utils.spectral_norm(nn.Linear(4, 4))
        self.new = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3))
        self.mask = nn.Parameter(torch.full((2, 2), -torch.inf), requires_grad=False)
        self.index = nn.Parameter(torch.arange(3), requires_grad=False)
        self.register_buffer("causal", torch.full((2, 2), -torch.inf).triu(1))
        self.register_buffer("counts", torch.zeros(3, dtype=torch.int64))
        self.register_buffer("flags", torch.tensor([True, False]))
        self.register_buffer("phase", torch.ones(2, dtype=torch.complex64))
        self.register_buffer("scale", torch.ones(2))
        self.register_buffer("later", nn.parameter.UninitializedBuffer())

    def forward(self, input: Tensor) -> Tensor:
        self.counts += 1
        self.scale *= 2
        normed = self.instance(self.norm(input).unsqueeze(2).expand(-1, -1, 2)).mean(2) + self.norm(input)
        logits: Tensor = self.new(self.old(normed).tanh())
        return logits


RUNNING = {f"{layer}.running_{what}" for layer in ("norm", "instance") for what in ("mean", "var")}


def test_only_running_statistics_are_averaged_and_all_other_buffers_are_the_present_ones() -> None:
    argus_core.register("nn_module", "mixed", Mixed)
    model = build(("ema", {"decay": DECAY, "buffers": "average"}), nn_module="mixed")
    model.fit(batches())
    averaged = model.step_state()["ema"]["averages"]
    learned = {name for name, each in model.nn_module.named_parameters() if each.requires_grad}
    assert averaged.keys() == RUNNING | learned
    assert all(bool(torch.isfinite(each).all()) for each in averaged.values())
    buffers = {name: each for name, each in model.nn_module.named_buffers() if name != "later"}
    trained = {name: each.clone() for name, each in buffers.items()}
    with model.evaluation():
        assert {name for name, each in buffers.items() if not torch.equal(each, trained[name])} == RUNNING


def test_a_spectrally_normed_network_validates_alike_with_copied_and_averaged_buffers() -> None:
    losses = []
    argus_core.register("nn_module", "spectral", spectral)
    for buffers in ("copy", "average"):
        torch.manual_seed(0)
        step = ("ema", {"decay": 0.99, "warmup": False, "buffers": buffers})
        model = build(step, nn_module="spectral", optimizer=("Adam", {"lr": 0.01}))
        losses.append(model.fit(batches(), batches(), num_epochs=5)["val_loss"])
    assert losses[0] == losses[1]


def spectral() -> nn.Module:
    layers = [nn.utils.spectral_norm(nn.Linear(4, 4)) for _ in range(6)]
    return nn.Sequential(*layers, nn.Linear(4, 3))


def test_averages_of_buffers_that_are_copied_now_are_left_in_the_file(tmp_path: Path) -> None:
    model = build(("ema", {"decay": DECAY, "buffers": "average"}), nn_module="normed")
    model.fit(batches())
    model.save(tmp_path / "model.safetensors")
    loaded = argus_core.load_model(tmp_path / "model.safetensors", step={"buffers": "copy"})
    assert loaded.step_state()["ema"]["averages"].keys() == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert torch.equal(averages(loaded), averages(model))


def test_weights_of_8_bits_are_averaged_in_float32() -> None:
    strategy, network = EMA(DECAY), nn.Linear(4, 3).to(torch.float8_e5m2)
    model = build(nn_module="net")
    model.nn_module = network
    strategy.set_up(model)
    strategy.after_update(model, True)
    assert {each.dtype for each in strategy.state_dict()["averages"].values()} == {torch.float32}
    with strategy.evaluation_context():
        assert network.weight.dtype is torch.float8_e5m2
