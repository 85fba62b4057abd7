"""A loss's own parameters are trained, clipped, averaged, saved and resumed like a network's."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import batches
from strategies import CLIP, CUT, build, register_all
from torch import Tensor, nn

import argus_core
from argus_core import BuildError, Model, StateMismatchError, load_model
from argus_core.errors import ArgusWarning
from argus_core.storage import CheckpointFile

ADAM = ("Adam", {"lr": 0.01})


class Centres(nn.Module):
    """Compares (batch, 3) embeddings with learned centres; keeps count of its calls."""

    def __init__(self, count: int = 3, frozen: bool = False) -> None:
        super().__init__()
        start = torch.linspace(-1, 1, 3 * count).view(count, 3)
        self.centres = nn.Parameter(start, requires_grad=not frozen)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, embedding: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        loss: Tensor = nn.functional.cross_entropy(embedding @ self.centres.T, target)
        return loss


class Temperature(nn.Module):
    """Learns another parameter than `Centres`."""

    def __init__(self) -> None:
        super().__init__()
        self.logarithm = nn.Parameter(torch.zeros(1))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = nn.functional.cross_entropy(logits * self.logarithm.exp(), target)
        return loss


class Together(nn.Module):
    """The network and the centres as one module, whose prediction is what `Centres` compares."""

    def __init__(self, network: nn.Module, centres: Tensor) -> None:
        super().__init__()
        self.network, self.centres = network, nn.Parameter(centres.detach().clone())

    def forward(self, input: Tensor) -> Tensor:
        logits: Tensor = self.network(input) @ self.centres.T
        return logits


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        register_all()
        argus_core.register("loss", "centres")(Centres)
        argus_core.register("loss", "temperature")(Temperature)
        for cls in (NetworkAlone, Tied, TwoGroups):
            argus_core.register("model", cls.__name__)(cls)
        yield


def centred(*steps: Any, **params: Any) -> Model:
    return build(*steps, **{"loss": "centres", "nn_module": "smooth"} | params)


def by_hand(*steps: Any, **params: Any) -> Model:
    """Return a model of the same start whose network has the centres."""
    one = centred()
    argus_core.register("nn_module", "together", override=True)(
        lambda: Together(copy.deepcopy(one.nn_module), one.loss.centres)
    )
    return build(*steps, nn_module="together", **params)


@pytest.mark.parametrize(
    "steps",
    [
        [],
        CUT,
        [CLIP],
        [("clip_grad_value", {"clip_value": 0.01})],
        [("ema", {"decay": 0.9})],
        ["sam"],
        ["finite_guard"],
        ["amp"],
        [("amp", {"dtype": "float16", "init_scale": 8.0}), CLIP],
        [*CUT, CLIP, ("ema", {"decay": 0.5}), "sam"],
    ],
    ids=str,
)
def test_every_strategy_trains_them_like_parameters_of_the_network(steps: list[Any]) -> None:
    model, twin = centred(*steps), by_hand(*steps)
    losses = [each.fit(batches(), batches(), num_epochs=2) for each in (model, twin)]
    assert not torch.equal(model.loss.centres, Centres().centres)
    torch.testing.assert_close(model.loss.centres, twin.nn_module.centres, rtol=0, atol=1e-6)
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_an_optimizer_with_a_closure_trains_them_too() -> None:
    model, twin = (
        make("closure", optimizer=("LBFGS", {"lr": 0.1, "max_iter": 3})) for make in (centred, by_hand)
    )
    for each in (model, twin):
        each.fit(batches())
    torch.testing.assert_close(model.loss.centres, twin.nn_module.centres, rtol=0, atol=1e-4)


def test_gradients_are_cleared_before_each_update() -> None:
    model = centred()
    model.train_step(batches()[0])
    once = model.loss.centres.grad.clone()
    fresh = centred()
    fresh.nn_module.load_state_dict(model.nn_module.state_dict())
    fresh.loss.load_state_dict(model.loss.state_dict())
    model.train_step(batches()[1])
    fresh.train_step(batches()[1])
    assert torch.equal(model.loss.centres.grad, fresh.loss.centres.grad)
    assert not torch.equal(model.loss.centres.grad, once)


def test_sam_lets_buffers_of_the_loss_see_the_first_pass_only() -> None:
    model = centred("sam")
    model.train_step(batches()[0])
    assert int(model.loss.calls) == 1


def test_validation_uses_their_average_and_training_does_not() -> None:
    model, plain = centred(("ema", {"decay": 0.9})), centred()
    for each in (model, plain):
        each.fit(batches(), batches(), num_epochs=2)
    assert torch.equal(model.loss.centres, plain.loss.centres)
    with model.evaluation():
        assert not torch.equal(model.loss.centres, plain.loss.centres)
        assert torch.equal(model.loss.centres, model.step_state()["ema"]["averages"]["loss.centres"])


def test_frozen_parameters_of_a_loss_are_neither_trained_nor_averaged() -> None:
    model = centred("ema", loss=("centres", {"frozen": True}))
    before = model.loss.centres.clone()
    model.fit(batches())
    assert torch.equal(model.loss.centres, before)
    assert "loss.centres" not in model.step_state()["ema"]["averages"]


def test_a_frozen_network_is_trained_through_its_loss() -> None:
    argus_core.register("nn_module", "frozen")(lambda: nn.Linear(4, 3).requires_grad_(False))
    model = centred(nn_module="frozen")
    model.fit(batches())
    assert not torch.equal(model.loss.centres, Centres().centres)


def test_without_any_parameter_that_requires_grad_an_optimizer_is_refused() -> None:
    argus_core.register("nn_module", "frozen")(lambda: nn.Linear(4, 3).requires_grad_(False))
    with pytest.raises(BuildError, match="no parameter of nn_module or loss requires grad"):
        centred(nn_module="frozen", loss=("centres", {"frozen": True}))


class Tied(Model):
    """The loss works on the weight of the network's last layer."""

    def build_loss(self, factory: Any, params: Any) -> Any:
        loss = super().build_loss(factory, params)
        loss.centres = self.nn_module[2].weight
        return loss


def test_a_parameter_that_network_and_loss_share_counts_once(tmp_path: Path) -> None:
    argus_core.register("nn_module", "tied")(
        lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3))
    )
    params = {"nn_module": "tied", "loss": "centres", "optimizer": ADAM, "device": "cpu"}
    model = Tied(params)
    assert len(model.optimizer.param_groups[0]["params"]) == 4
    model.fit(batches())
    assert model.loss.centres is model.nn_module[2].weight
    model.save(tmp_path / "a.safetensors", optimizer_state=True)
    loaded = load_model(tmp_path / "a.safetensors")
    assert torch.equal(loaded.loss.centres, model.loss.centres)
    assert stored_slots(tmp_path / "a.safetensors") == {"0.weight", "0.bias", "2.weight", "2.bias"}


def stored_slots(path: Path) -> set[str]:
    """Return the names of the parameters whose state a checkpoint has."""
    with CheckpointFile(path) as file:
        names = [*file.header.entries, *file.header.aliases]
    return {name.split("/")[1] for name in names if name.startswith("optimizer/")}


def test_state_of_the_optimizer_stands_under_the_names_of_the_loss(tmp_path: Path) -> None:
    model = centred(optimizer=ADAM)
    model.fit(batches())
    model.save(tmp_path / "a.safetensors", optimizer_state=True)
    assert "loss.centres" in stored_slots(tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "a.safetensors")
    for each in (model, loaded):
        each.fit(batches(seed=1))
    assert torch.equal(loaded.loss.centres, model.loss.centres)


def test_a_layer_of_the_network_may_be_called_loss(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loss = nn.Linear(4, 3)
            self.loss.register_parameter("centres", nn.Parameter(torch.zeros(3)))

        def forward(self, input: Tensor) -> Tensor:
            embedding: Tensor = self.loss(input) + self.loss.centres
            return embedding

    argus_core.register("nn_module", "named")(Net)
    model = centred(("ema", {"decay": 0.5}), nn_module="named", optimizer=ADAM)
    model.fit(batches())
    model.save(tmp_path / "a.safetensors", optimizer_state=True)
    names = {"loss.weight", "loss.bias", "loss.centres", "loss.loss.centres"}
    assert stored_slots(tmp_path / "a.safetensors") == names
    assert model.step_state()["ema"]["averages"].keys() == names
    loaded = load_model(tmp_path / "a.safetensors")
    for each in (model, loaded):
        each.fit(batches(seed=1))
    assert torch.equal(loaded.loss.centres, model.loss.centres)
    assert load_model(tmp_path / "a.safetensors", loss=None).step_state()["ema"]["averages"].keys() == (
        names - {"loss.loss.centres"}
    )


@pytest.mark.parametrize("steps", [[], [("ema", {"decay": 0.9}), CLIP]], ids=str)
def test_a_resumed_run_goes_on_to_the_bit(tmp_path: Path, steps: list[Any]) -> None:
    keep = ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True})
    whole, first, second = (centred(*steps, optimizer=ADAM) for _ in range(3))
    expected = whole.fit(batches(), batches(), num_epochs=4)
    first.fit(batches(), batches(), num_epochs=2, callbacks=[keep])
    assert second.fit(batches(), batches(), num_epochs=4, resume=tmp_path) == expected
    assert torch.equal(second.loss.centres, whole.loss.centres)


class NetworkAlone(Model):
    """Builds its optimizer as earlier versions did, whatever the loss has."""

    def build_optimizer(self, factory: Any, params: Any) -> Any:
        return factory(self.nn_module.parameters(), **params)


def older_checkpoint(path: Path, **params: Any) -> Model:
    """Write a checkpoint whose optimizer knows the network's parameters alone."""
    params = {"nn_module": "smooth", "loss": "centres", "optimizer": ADAM, "device": "cpu"} | params
    model = NetworkAlone(params)
    model.fit(batches())
    model.save(path, optimizer_state=True)
    return model


@pytest.mark.parametrize("optimizer", ["Adam", "Adagrad", "SGD"])
def test_an_older_checkpoint_loads_and_the_loss_learns_from_there(tmp_path: Path, optimizer: str) -> None:
    older = older_checkpoint(tmp_path / "a.safetensors", optimizer=(optimizer, {"lr": 0.01}))
    loaded = load_model(tmp_path / "a.safetensors", model_name="Model")
    weight = older.nn_module[0].weight
    for slot, value in older.optimizer.state[weight].items():
        stored = loaded.optimizer.state[loaded.nn_module[0].weight][slot]
        assert value is stored is None or torch.equal(value, stored)
    before = loaded.loss.centres.clone()
    loaded.fit(batches())
    assert not torch.equal(loaded.loss.centres, before)


@pytest.mark.parametrize("loss", [None, "temperature", "CrossEntropyLoss"])
def test_without_the_loss_or_with_another_the_rest_of_the_state_is_kept(tmp_path: Path, loss: Any) -> None:
    model = centred(("ema", {"decay": 0.9}), optimizer=ADAM)
    model.fit(batches())
    model.save(tmp_path / "a.safetensors", optimizer_state=True)
    loaded = load_model(tmp_path / "a.safetensors", loss=loss)
    for one, other in zip(model.nn_module.parameters(), loaded.nn_module.parameters(), strict=True):
        average = model.optimizer.state[one]["exp_avg"]
        assert torch.equal(loaded.optimizer.state[other]["exp_avg"], average)
    assert torch.equal(loaded.predict(batches()[0][0]), model.predict(batches()[0][0]))
    if loss is not None:
        loaded.fit(batches(), batches())


def test_the_same_loss_named_anew_begins_with_the_state_of_a_new_one(tmp_path: Path) -> None:
    model = centred(optimizer=ADAM)
    model.fit(batches())
    model.save(tmp_path / "a.safetensors", optimizer_state=True)
    loaded = load_model(tmp_path / "a.safetensors", loss=("centres", {"count": 4}))
    assert loaded.loss.centres not in loaded.optimizer.state
    loaded.fit(batches())


class Margins(Centres):
    """Has the parameters of `Centres` by name and shape, and is another loss."""


@pytest.mark.parametrize("loss", ["margins", ("centres", {"count": 3})], ids=str)
def test_another_loss_with_parameters_of_the_same_shapes_begins_with_its_own_averages(
    tmp_path: Path, loss: Any
) -> None:
    argus_core.register("loss", "margins")(Margins)
    model = centred(("ema", {"decay": 0.9}), optimizer=ADAM)
    model.fit(batches())
    model.save(tmp_path / "a.safetensors", optimizer_state=True)
    loaded = load_model(tmp_path / "a.safetensors", loss=loss)
    averages = loaded.step_state()["ema"]["averages"]
    assert torch.equal(averages["loss.centres"], Centres().centres)
    assert torch.equal(loaded.loss.centres, Centres().centres)
    kept = model.step_state()["ema"]["averages"]
    assert all(torch.equal(averages[name], kept[name]) for name in kept if name != "loss.centres")


def test_a_run_that_is_resumed_with_another_loss_says_with_which_parameters_it_begins(
    tmp_path: Path,
) -> None:
    argus_core.register("loss", "margins")(Margins)
    keep = ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True})
    first = centred(("ema", {"decay": 0.9}), optimizer=ADAM)
    first.fit(batches(), callbacks=[keep])
    second = centred(("ema", {"decay": 0.9}), optimizer=ADAM, loss="margins")
    told = r"params\['loss'\] was 'centres' and is 'margins', which begins with the parameters that"
    with pytest.warns(ArgusWarning, match=told):
        second.fit(batches(), num_epochs=1, resume=tmp_path)
    assert torch.equal(second.loss.centres, first.loss.centres)


def test_a_run_whose_optimizer_did_not_have_the_loss_says_so_when_it_is_resumed(tmp_path: Path) -> None:
    keep = ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True})
    params = {"nn_module": "smooth", "loss": "centres", "optimizer": ADAM, "device": "cpu"}
    NetworkAlone(params).fit(batches(), callbacks=[keep])
    model = Model(params)
    before = model.loss.centres.clone()
    told = (
        r"has changed: the loss's parameters \(loss\.centres\) were not trained before and are from here on$"
    )
    with pytest.warns(ArgusWarning, match=told):
        model.fit(batches(), num_epochs=2, resume=tmp_path)
    assert not torch.equal(model.loss.centres, before)


def test_state_that_is_one_of_all_parameters_is_refused_with_another_loss(tmp_path: Path) -> None:
    model = centred("closure", optimizer="LBFGS")
    model.fit(batches())
    model.save(tmp_path / "a.safetensors", optimizer_state=True)
    with pytest.raises(StateMismatchError, match=r"one of all parameters together.*optimizer=None"):
        load_model(tmp_path / "a.safetensors", loss="CrossEntropyLoss")


def test_another_set_of_parameters_of_the_same_loss_is_refused(tmp_path: Path) -> None:
    model = centred(optimizer=ADAM)
    model.fit(batches())
    model.save(tmp_path / "a.safetensors", optimizer_state=True)
    with pytest.raises(StateMismatchError, match=r"other parameters \(loss.centres\)"):
        load_model(tmp_path / "a.safetensors", loss={"frozen": True})


class TwoGroups(Model):
    """Gives the loss a rate of its own."""

    def build_optimizer(self, factory: Any, params: Any) -> Any:
        network = list(self.nn_module.parameters())
        groups: list[dict[str, Any]] = [{"params": network}]
        others = [each for each in self.trainable_parameters() if not any(each is own for own in network)]
        if others:
            groups.append({"params": others, "lr": 10 * params["lr"]})
        return factory(groups, **params)


def test_a_group_of_its_own_goes_with_the_loss(tmp_path: Path) -> None:
    params = {"nn_module": "smooth", "loss": "centres", "optimizer": ADAM, "device": "cpu"}
    model = TwoGroups(params)
    model.fit(batches())
    assert model.get_lr() == [0.01, 0.1]
    model.set_lr([0.02, 0.3])
    model.save(tmp_path / "a.safetensors", optimizer_state=True)
    assert load_model(tmp_path / "a.safetensors").get_lr() == [0.02, 0.3]
    assert load_model(tmp_path / "a.safetensors", loss="CrossEntropyLoss").get_lr() == 0.02
    assert load_model(tmp_path / "a.safetensors", loss="temperature").get_lr() == [0.02, 0.1]


def test_weights_of_the_loss_that_are_not_finite_are_noticed() -> None:
    model = centred()
    assert model.is_finite()
    model.loss.centres.data[0] = torch.nan
    assert not model.is_finite()
