"""The state of every optimizer that torch ships comes back by the names of its parameters, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from crafted import crafted
from networks import Net, batches, same_weights
from strategies import register_all
from torch import Tensor, nn

import argus_core
from argus_core import Model, load_model
from argus_core.errors import StateMismatchError
from argus_core.storage import CheckpointFile

with argus_core.isolated_registry(builtins=True):
    OPTIMIZERS = argus_core.names("optimizer")

# What an optimizer needs that others do not: a network of other parameters, or a closure.
NEEDS: dict[str, dict[str, Any]] = {
    "LBFGS": {"step": "closure"},
    "Muon": {"nn_module": "flat"},
    "SparseAdam": {"nn_module": "bag"},
}
# Options that make an optimizer keep all that it can.
OPTIONS: dict[str, dict[str, Any]] = {
    "Adam": {"amsgrad": True},
    "AdamW": {"amsgrad": True},
    "LBFGS": {"max_iter": 3},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "SGD": {"momentum": 0.9},
}


class Flat(nn.Sequential):
    """Matrices only."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 8, bias=False), nn.Tanh(), nn.Linear(8, 3, bias=False))


class Bag(nn.EmbeddingBag):
    """Gradients are sparse: (batch, features) float, of which the signs count."""

    def __init__(self) -> None:
        super().__init__(2, 3, mode="sum", sparse=True)

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        logits: Tensor = super().forward((input > 0).long())
        return logits


@pytest.fixture(autouse=True)
def _registry() -> Any:
    with argus_core.isolated_registry(builtins=True):
        register_all()
        argus_core.register("nn_module", "flat", Flat)
        argus_core.register("nn_module", "bag", Bag)
        yield


def trained(name: str) -> Model:
    torch.manual_seed(0)
    options = {"lr": 0.01} | OPTIONS.get(name, {})
    params = {"nn_module": "net", "loss": "CrossEntropyLoss", "device": "cpu"} | NEEDS.get(name, {})
    model = Model(params | {"optimizer": (name, options)})
    model.fit(batches(), num_epochs=2)
    return model


def same(one: Any, other: Any) -> bool:
    """Return whether two states are equal in every type and bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_comes_back_to_the_bit(tmp_path: Path, name: str) -> None:
    model = trained(name)
    model.save(tmp_path / "a.safetensors", optimizer_state=True)
    loaded = load_model(tmp_path / "a.safetensors")
    state = model.optimizer.state_dict()
    assert state["state"]
    assert same(loaded.optimizer.state_dict(), state)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_as_if_nothing_had_happened(tmp_path: Path, name: str) -> None:
    model = trained(name)
    model.save(tmp_path / "a.safetensors", optimizer_state=True)
    loaded = load_model(tmp_path / "a.safetensors")
    for each in (model, loaded):
        each.fit(batches(seed=1), num_epochs=2)
    assert same_weights(model, loaded)
    assert same(loaded.optimizer.state_dict(), model.optimizer.state_dict())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_tensors_of_the_state_stand_under_the_names_of_their_parameters(tmp_path: Path, name: str) -> None:
    model = trained(name)
    model.save(tmp_path / "a.safetensors", optimizer_state=True)
    with CheckpointFile(tmp_path / "a.safetensors") as file:
        stored = {
            name for name in (*file.header.entries, *file.header.aliases) if name.startswith("optimizer/")
        }
    parameters = {parameter: name for name, parameter in model.nn_module.named_parameters()}
    expected = {
        f"optimizer/{parameters[parameter]}/{slot}"
        for parameter, slots in model.optimizer.state.items()
        for slot, value in slots.items()
        if isinstance(value, Tensor)
    }
    assert expected
    assert expected <= stored


def test_state_finds_its_parameters_whatever_their_order(tmp_path: Path) -> None:
    class Turned(Net):
        """The same parameters, counted the other way round."""

        def named_parameters(self, *args: Any, **kwargs: Any) -> Any:
            return reversed(list(super().named_parameters(*args, **kwargs)))

    model = trained("Adam")
    model.save(tmp_path / "a.safetensors", optimizer_state=True)
    argus_core.register("nn_module", "turned", Turned)
    loaded = load_model(tmp_path / "a.safetensors", nn_module="turned")
    for name, parameter in model.nn_module.named_parameters():
        ours = model.optimizer.state[parameter]
        theirs = loaded.optimizer.state[loaded.nn_module.get_parameter(name)]
        assert same(theirs, ours)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("lr", None),
        ("lr", "x"),
        ("lr", {"$tensor": "nn/hidden.weight"}),
        ("betas", None),
        ("betas", [0.9]),
        ("betas", {"$tuple": ["a", "b"]}),
        ("eps", {}),
        ("weight_decay", None),
        ("maximize", {"$tensor": "nn/hidden.weight"}),
        ("amsgrad", "x"),
        ("foreach", [1]),
    ],
)
def test_option_of_another_type_is_refused_and_not_met_in_the_update(
    option: str, value: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    argus_core.register("nn_module", "net", Net, override=True)
    Model({"nn_module": "net", "optimizer": ("Adam", {"lr": 0.1}), "device": "cpu"}).save(
        path, optimizer_state=True
    )

    def change(_: Any, manifest: Any) -> None:
        manifest["optimizer"]["param_groups"][0][option] = value

    path.write_bytes(crafted(path.read_bytes(), change))
    with pytest.raises(
        StateMismatchError,
        match=f"state does not fit Adam: {option} is .* in the file and .* in what",
    ):
        load_model(path)
