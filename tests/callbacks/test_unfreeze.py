"""The step strategy unfreeze: what learns when, by hand, and what is saved, resumed and shown of it."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from networks import batches, same_weights
from small_runs import CONFIG, small_registry
from torch import Tensor, nn

import argus_core
from argus_core import ArgusWarning, BuildError, Model, ParamsError, load_model
from argus_core.callbacks import Checkpoint
from argus_core.cli import main

BACKBONE = ["backbone.0.weight", "backbone.0.bias", "backbone.1.weight", "backbone.1.bias",
            "backbone.3.weight", "backbone.3.bias"]  # fmt: skip
LAST, FIRST = BACKBONE[4:], BACKBONE[:4]  # the norm belongs to the layer before it
HEAD = ["head.weight", "head.bias"]


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 6), nn.Dropout(0.3)
        )
        self.head = nn.Linear(6, 3)

    def forward(self, input: Tensor) -> Tensor:
        scores: Tensor = self.head(self.backbone(input))
        return scores


class Scaled(nn.Module):
    """A loss with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(scores * self.scale, target)


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "classifier", Classifier)
        argus_core.register("loss", "scaled", Scaled)
        yield


def unfreeze(after: str, match: Any = "backbone.*", **options: Any) -> tuple[str, dict[str, Any]]:
    return "unfreeze", {"match": match, "after": after, **options}


def model(*step: Any, **params: Any) -> Model:
    torch.manual_seed(0)
    return Model({
        "nn_module": "classifier", "loss": "CrossEntropyLoss", "device": "cpu", "step": [*step],
        "optimizer": ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}), **params,
    })  # fmt: skip


def learning(model: Model) -> list[str]:
    return [name for name, each in model.nn_module.named_parameters() if each.requires_grad]


def asleep(model: Model) -> list[str]:
    return [name for name, each in model.nn_module.named_modules() if not each.training]


def seen(model: Model, look: Callable[[Model], Any] = learning, **options: Any) -> list[Any]:
    """Return what a look at the model sees in each iteration of a run of two epochs of three updates."""
    found: list[Any] = []
    note = argus_core.on_iteration_start(lambda state: found.append(look(state.model)))
    loader = options.pop("loader", batches())
    own = [*options.pop("callbacks", ()), note]
    model.fit(loader, callbacks=own, seed=0, **(options or {"num_epochs": 2}))
    return found


@pytest.mark.parametrize(("step", "stages"), [
    (unfreeze("1ep"), [HEAD] * 3 + [BACKBONE + HEAD] * 3),
    (unfreeze("2up"), [HEAD] * 2 + [BACKBONE + HEAD] * 4),
    (unfreeze("50%"), [HEAD] * 3 + [BACKBONE + HEAD] * 3),
    (unfreeze(" 0.1 %"), [BACKBONE + HEAD] * 6),
    (unfreeze("1ep", ["backbone.3.*"]), [FIRST + HEAD] * 3 + [BACKBONE + HEAD] * 3),
    (unfreeze("1up", every="2up"), [HEAD] + [LAST + HEAD] * 2 + [BACKBONE + HEAD] * 3),
    (unfreeze("0ep", every="1ep"), [LAST + HEAD] * 3 + [BACKBONE + HEAD] * 3),
    (unfreeze("0up", every="1up"), [LAST + HEAD] + [BACKBONE + HEAD] * 5),
    (unfreeze("0%", every="50%"), [LAST + HEAD] * 3 + [BACKBONE + HEAD] * 3),
])  # fmt: skip
@pytest.mark.parametrize("freeze", [None, ["backbone.*"]])
def test_parameters_learn_from_when_they_are_due(step: Any, stages: Any, freeze: Any) -> None:
    params = {} if freeze is None else {"freeze": freeze}
    if freeze and step[1]["match"] == ["backbone.3.*"]:  # the rest stays frozen
        stages = [HEAD] * 3 + [LAST + HEAD] * 3
    assert seen(model(step, **params)) == stages


@pytest.mark.parametrize(("step", "options", "words"), [
    (unfreeze("2ep"), {}, "backbone.0.weight and 5 more stay frozen, .* 2 epochs, .* 2 epochs; give"),
    (unfreeze("30ep"), {"num_epochs": 1}, "due after 30 epochs, and the run ends after 1 epoch;"),
    (unfreeze("6up"), {}, "due after 6 updates, and the run ends after 6 updates;"),
    (unfreeze("0up", every="7up"), {}, "backbone.0.weight and 3 more stay frozen, .* after 7 updates, and"),
    (unfreeze("60%", every="50%"), {}, "backbone.0.weight and 3 more stay frozen, .* 110% of the run, and"),
])  # fmt: skip
def test_a_run_that_ends_before_parameters_are_due_says_so_as_it_begins(
    step: Any, options: Any, words: str
) -> None:
    with pytest.warns(ArgusWarning, match=words):
        found = seen(model(step), **options)
    assert any(name in BACKBONE for name in {*BACKBONE} - {*found[-1]})


def test_a_frozen_part_is_as_it_was_and_then_learns_as_by_hand() -> None:
    trained = model(unfreeze("2up"))
    start = {name: value.clone() for name, value in trained.nn_module.state_dict().items()}
    with pytest.warns(ArgusWarning, match="stay frozen"):
        modes = seen(trained, asleep, num_updates=2)
    assert all({"backbone", "backbone.1", "backbone.4"} <= set(each) for each in modes)
    for name, value in trained.nn_module.state_dict().items():
        assert torch.equal(value, start[name]) == name.startswith("backbone."), name
    assert {len(trained.optimizer.state[each]) for each in trained.nn_module.backbone.parameters()} == {0}
    assert asleep(trained) == []
    by_hand = model()
    by_hand.nn_module.load_state_dict(trained.nn_module.state_dict())
    for name, parameter in trained.nn_module.head.named_parameters():
        its = by_hand.nn_module.head.get_parameter(name)
        by_hand.optimizer.state[its] = {
            key: value.clone() for key, value in trained.optimizer.state[parameter].items()
        }
    for each in (trained, by_hand):
        torch.manual_seed(3)
        each.train_step(batches()[0])
    assert same_weights(trained, by_hand)


def test_the_optimizer_has_the_parameters_in_their_groups_from_the_beginning() -> None:
    groups = {"lr": 0.1, "groups": [{"match": "backbone.*", "lr": 0.01}]}
    trained = model(unfreeze("1up"), optimizer=("SGD", groups))
    assert [group["name"] for group in trained.optimizer.param_groups] == ["backbone.*", "others"]
    before = trained.nn_module.backbone[3].bias.detach().clone()
    rates = seen(trained, Model.get_lr, lr_scheduler=("warmup_constant", {"warmup": 2}), num_epochs=1)
    assert rates == [pytest.approx([0.005, 0.05]), *[pytest.approx([0.01, 0.1])] * 2]
    assert not torch.equal(before, trained.nn_module.backbone[3].bias)


def test_skipped_updates_do_not_count() -> None:
    class First:
        asked = 0

        @argus_core.hookimpl
        def allow_update(self) -> bool:
            self.asked += 1
            return self.asked > 2

    argus_core.register("step", "first", First)
    assert seen(model(unfreeze("1up"), "first")) == [HEAD] * 3 + [BACKBONE + HEAD] * 3


def test_a_share_needs_the_length_of_the_run() -> None:
    class Endless:
        def __iter__(self) -> Iterator[Any]:
            return iter(batches())

    with pytest.raises(ParamsError, match="whose number of updates is not known; give num_updates, or after"):
        model(unfreeze("50%")).fit(Endless(), num_epochs=2)
    assert seen(model(unfreeze("50%")), loader=Endless(), num_updates=4) == [HEAD] * 2 + [BACKBONE + HEAD] * 2


def test_a_second_run_of_one_model_continues_where_the_first_ended() -> None:
    trained = model(unfreeze("4up"))
    with pytest.warns(ArgusWarning, match="stay frozen"):
        assert seen(trained, num_epochs=1) == [HEAD] * 3
    assert seen(trained, num_epochs=1) == [HEAD, *[BACKBONE + HEAD] * 2]
    trained = model(unfreeze("50%"))
    trained.fit(batches(), num_updates=1)  # half of one is rounded to none
    assert learning(trained) == BACKBONE + HEAD


def test_updates_without_a_run_count() -> None:
    trained = model(unfreeze("2up"))
    for expected in ([*HEAD], [*HEAD], BACKBONE + HEAD):
        assert learning(trained) == expected
        trained.train_step(batches()[0])
    share = model(unfreeze("1%"))
    share.train_step(batches()[0])
    assert learning(share) == HEAD


def test_parameters_of_the_loss_are_frozen_and_averaged_too() -> None:
    trained = model(unfreeze("3up", "loss.*"), ("ema", {"decay": 0.5}), loss="scaled")
    scales = seen(trained, lambda each: each.loss.scale.item())
    assert len(set(scales[:4])) == 1
    assert len(set(scales[3:])) == 3
    with trained.evaluation():
        averaged = trained.loss.scale.item()
    assert averaged not in (scales[0], trained.loss.scale.item())


def test_modes_that_others_chose_stay() -> None:
    class Own(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.backbone[4].eval()

    argus_core.register("nn_module", "own", Own)
    trained = model(unfreeze("3up"), nn_module="own")
    trained.predict(batches()[0][0])
    modes = seen(trained, asleep)
    assert "backbone.1" in modes[2]
    assert modes[3:] == [["backbone.4"]] * 3


@pytest.mark.parametrize(("options", "message"), [
    ({"match": []}, r"step 'unfreeze': match is \[\]; give a pattern of parameter names"),
    ({"after": "3"}, r"after is '3'; give epochs, updates or a share of the run, such as '3ep', '500up' or"),
    ({"after": "2h"}, "after is '2h'; give epochs"),
    ({"after": "1.5ep"}, "after is '1.5ep'; give epochs"),
    ({"after": "101%"}, "after is '101%'; give epochs"),
    ({"every": "1"}, "every is '1'; give epochs"),
    ({"every": "2up"}, "after is '1ep' and every is '2up'; give both in one unit"),
    ({"every": "0ep"}, "every more than 0"),
    ({"match": "bakbone.*"}, r"'bakbone.\*' matches no parameter; .*did you mean 'backbone.\*'"),
    ({"match": "*"}, "leaves no parameter to train in the first 1 epoch; narrow its patterns"),
])  # fmt: skip
def test_options_that_do_not_fit_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        model(("unfreeze", {"match": "backbone.*", "after": "1ep", **options}))


def test_parameters_that_the_network_itself_froze_stay_so() -> None:
    class Constant(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.backbone[0].requires_grad_(False)

    argus_core.register("nn_module", "constant", Constant)
    assert seen(model(unfreeze("1ep"), nn_module="constant"))[-1] == BACKBONE[2:] + HEAD
    with pytest.raises(ParamsError, match="matches only parameters that do not require grad"):
        model(unfreeze("1ep", "backbone.0.*"), nn_module="constant")


def test_lazy_parameters_are_frozen_too_but_have_no_layers() -> None:
    class Lazy(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Sequential(nn.LazyLinear(6), nn.LazyBatchNorm1d())

    argus_core.register("nn_module", "lazy", Lazy)
    names = BACKBONE[:4]
    assert seen(model(unfreeze("1ep"), nn_module="lazy")) == [HEAD] * 3 + [names + HEAD] * 3
    frozen = model(freeze="backbone.*", nn_module="lazy")
    assert seen(frozen) == [HEAD] * 6
    for params in (
        {"step": unfreeze("1ep", every="1ep")},
        {"optimizer": ("SGD", {"layer_decay": 0.5, "lr": 0.1})},
    ):
        with pytest.raises(ParamsError, match="not known before its first input, since 'backbone.0.weight'"):
            model(**{"nn_module": "lazy", **params})


def test_modes_that_a_networks_own_train_decides_stay() -> None:
    class Deciding(Classifier):
        def train(self, mode: bool = True) -> Classifier:
            super().train(mode)
            self.backbone[1].eval()
            return self

    argus_core.register("nn_module", "deciding", Deciding)
    trained = model(unfreeze("1up", every="2up"), nn_module="deciding")
    with pytest.warns(ArgusWarning, match="stay frozen"):
        modes = seen(trained, asleep, val_loader=batches())
    assert modes[1:] == [["backbone.0", "backbone.1"]] * 2


def test_an_optimizer_of_ones_own_must_have_the_parameters() -> None:
    class Half(Model):
        def build_optimizer(self, factory: Any, params: Any) -> Any:
            return factory(self.nn_module.head.parameters(), **params)

    with pytest.raises(BuildError, match=r"does not have 'backbone.0.weight'; let build_optimizer take all"):
        Half({"nn_module": "classifier", "loss": "CrossEntropyLoss", "device": "cpu",
              "optimizer": ("SGD", {"lr": 0.1}), "step": [unfreeze("1ep")]})  # fmt: skip


def test_a_part_that_is_built_again_is_frozen_again() -> None:
    trained = model(unfreeze("1ep"))
    trained.set_part("optimizer")
    assert len(trained.optimizer.param_groups[0]["params"]) == len(BACKBONE + HEAD)
    trained.set_part("nn_module")
    trained.set_part("optimizer")
    assert seen(trained) == [HEAD] * 3 + [BACKBONE + HEAD] * 3


def test_a_checkpoint_loads_at_its_stage_and_without_the_strategy(tmp_path: Path) -> None:
    trained = model(unfreeze("1up", every="9up"))
    with pytest.warns(ArgusWarning, match="stay frozen"):
        trained.fit(batches())
    trained.save(tmp_path / "model.safetensors", optimizer_state=True)
    loaded = load_model(tmp_path / "model.safetensors")
    loaded.train()
    assert (learning(loaded), asleep(loaded)) == (LAST + HEAD, ["backbone.0", "backbone.1"])
    for changes in ({"step": None}, {"step": None, "optimizer": None}):
        loaded = load_model(tmp_path / "model.safetensors", **changes)
        loaded.train()
        assert (learning(loaded), asleep(loaded)) == (BACKBONE + HEAD, [])


def test_a_longer_run_keeps_the_share_of_the_first(tmp_path: Path) -> None:
    keep = Checkpoint(tmp_path, every="1up", optimizer_state=True, file_format="{step}.safetensors")
    seen(model(unfreeze("50%")), num_epochs=2, callbacks=[keep])
    found = seen(model(unfreeze("50%")), num_epochs=4, resume=tmp_path / "2.safetensors")
    assert found == [HEAD] + [BACKBONE + HEAD] * 9


def test_a_checkpoint_callback_does_not_warn_of_parameters_that_begin_to_learn(tmp_path: Path) -> None:
    model(unfreeze("1ep")).fit(
        batches(), num_epochs=2, callbacks=[Checkpoint(tmp_path, optimizer_state=True)]
    )  # a warning is an error


def test_explain_summary_and_log_say_what_is_frozen_until_when(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    trained = model(unfreeze("1ep", every="2ep"))
    lines = [
        "unfreeze: backbone.3.weight and 1 more: frozen for the first 1 epoch",
        "unfreeze: backbone.0.weight and 3 more: frozen for the first 3 epochs",
    ]
    for text in (trained.explain(), str(trained.summary())):
        assert "\n".join(lines) in text
    assert trained.summary().to_dict()["unfreezing"] == lines
    assert trained.summary().modules[1].trainable == 0
    with pytest.warns(ArgusWarning, match="stay frozen"):
        trained.fit(batches(), num_epochs=2)
    assert lines[0].replace("frozen for", "trained after") in trained.explain()
    assert "unfreeze: backbone.3.weight and 1 more: trained from now on" in caplog.text


def test_a_configuration_chooses_it_and_a_run_is_resumed_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def argus(*arguments: str) -> str:
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    monkeypatch.chdir(tmp_path)
    step = 'step = [["unfreeze", { match = "hidden.*", after = "1ep" }]]'
    Path("config.toml").write_text(
        CONFIG.replace('step = ["accumulate", { steps = 2 }]', step), encoding="utf-8"
    )
    line = "unfreeze: hidden.weight and 1 more: frozen for the first 1 epoch"
    changed = "unfreeze: hidden.weight and 1 more: trained from now on"
    with small_registry():
        assert line in argus("explain", "config.toml")
        assert json.loads(argus("summary", "config.toml", "--json"))["unfreezing"] == [line]
        half = argus("explain", "config.toml", "--set", "step.unfreeze.after=50%")
        assert "frozen for the first 50% of the run" in half
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            assert "warning: step 'unfreeze'" in argus("train", "config.toml", "--set", "num_epochs=1")
        assert changed not in Path("run/log.txt").read_text(encoding="utf-8")
        kept = load_model("run/checkpoints/last.safetensors").nn_module.hidden.weight
        argus("resume", "run", "--set", "num_epochs=2")
        assert changed in Path("run/log.txt").read_text(encoding="utf-8")
        trained = load_model("run/checkpoints/last.safetensors").nn_module.hidden.weight
        assert not torch.equal(kept, trained)
