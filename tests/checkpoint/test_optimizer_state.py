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
from argus_core.checkpoint.optimizer_state import check_entries
from argus_core.errors import StateMismatchError, UnsafeCheckpointError
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


class Complex(Net):
    """Has a complex parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Parameter(torch.ones(3, dtype=torch.complex64))

    def forward(self, input: Tensor) -> Tensor:
        logits: Tensor = super().forward(input) * self.turn.real
        return logits


@pytest.fixture(autouse=True)
def _registry() -> Any:
    with argus_core.isolated_registry(builtins=True):
        register_all()
        argus_core.register("nn_module", "flat", Flat)
        argus_core.register("nn_module", "bag", Bag)
        yield


def trained(name: str, **given: Any) -> Model:
    torch.manual_seed(0)
    options = {"lr": 0.01} | OPTIONS.get(name, {}) | given
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


def with_optimizer(path: Path, change: Any) -> Path:
    """Change the optimizer's section of a checkpoint."""
    path.write_bytes(crafted(path.read_bytes(), lambda _, manifest: change(manifest["optimizer"]) and None))
    return path


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_that_loads_can_be_trained_with_whatever_its_slots_are(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.safetensors"
    trained(name).save(path, optimizer_state=True)
    sound = path.read_bytes()
    with CheckpointFile(path) as file:
        owner, slots = next(iter(file.header.manifest["optimizer"]["state"].items()))
        tensor = next(each for each in file.header.entries if each.startswith("optimizer/"))
    refused = 0
    for slot in slots:
        for value in ("gone", None, "x", -1, 0.5, [], {"$tensor": tensor}):

            def change(optimizer: Any, slot: str = slot, value: Any = value) -> None:
                optimizer["state"][owner][slot] = value
                if value == "gone":
                    del optimizer["state"][owner][slot]

            path.write_bytes(sound)
            try:
                model = load_model(with_optimizer(path, change))
            except StateMismatchError:
                refused += 1
            else:
                model.fit(batches())
    assert refused


@pytest.mark.parametrize(
    ("name", "option", "slot"),
    [
        ("Adam", "amsgrad", "max_exp_avg_sq"),
        ("NAdam", None, "mu_product"),
        ("RMSprop", "centered", "grad_avg"),
        ("RMSprop", "momentum", "momentum_buffer"),
    ],
)
def test_state_that_lacks_what_an_option_needs_is_refused_when_it_is_loaded(
    name: str, option: str | None, slot: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    trained(name).save(path, optimizer_state=True)

    def change(optimizer: Any) -> None:
        for slots in optimizer["state"].values():
            del slots[slot]

    with pytest.raises(
        StateMismatchError,
        match=f"not fit {name}, whose next update would fail: it lacks '{slot}'; load with optimizer=None",
    ):
        load_model(with_optimizer(path, change))
    if option:  # which needs the slot
        with_optimizer(path, lambda optimizer: optimizer["param_groups"][0].update({option: False}))
        load_model(path).fit(batches())


@pytest.mark.parametrize(
    ("name", "option", "usual"),
    [("LBFGS", "max_iter", 3), ("LBFGS", "max_eval", 3), ("LBFGS", "history_size", 100)],
)
def test_number_of_steps_without_end_is_refused_in_params_and_state(
    name: str, option: str, usual: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    trained(name).save(path, optimizer_state=True)
    endless = with_optimizer(path, lambda optimizer: optimizer["param_groups"][0].update({option: 10**12}))
    message = (
        f"state does not fit {name}: {option} is 1000000000000 in the file and {usual} in what was built"
    )
    with pytest.raises(StateMismatchError, match=message):
        load_model(endless)
    trained(name).save(path)
    options = {"$tuple": [name, {"lr": 0.01, option: 10**12}]}
    path.write_bytes(crafted(path.read_bytes(), lambda _, each: each["params"].update(optimizer=options)))
    with pytest.raises(
        UnsafeCheckpointError, match=rf"{option} of optimizer '{name}' is .* may choose numbers up to [10,]+,"
    ):
        load_model(path)


def test_number_of_steps_that_the_caller_chooses_has_no_bound(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    trained("LBFGS", history_size=10_001).save(path, optimizer_state=True)
    with pytest.raises(
        UnsafeCheckpointError, match="a checkpoint may choose numbers up to 10,000, since it sets"
    ):
        load_model(path)
    load_model(path, optimizer={"history_size": 10_001}).fit(batches())


@pytest.mark.parametrize("option", ["lr", "betas"])
def test_state_without_an_option_of_its_group_is_refused(option: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    trained("Adam").save(path, optimizer_state=True)
    with pytest.raises(StateMismatchError, match=f"next update would fail: it lacks '{option}'"):
        load_model(with_optimizer(path, lambda optimizer: optimizer["param_groups"][0].pop(option)))


def test_resume_of_a_state_that_lacks_a_slot_is_refused_before_the_first_update(tmp_path: Path) -> None:
    model = trained("Adam")
    checkpoint = ("checkpoint", {"dir_path": str(tmp_path), "file_format": "last", "optimizer_state": True})
    model.fit(batches(), callbacks=[checkpoint])
    [path] = tmp_path.iterdir()
    with_optimizer(path, lambda optimizer: optimizer["state"]["hidden.weight"].pop("exp_avg"))
    with pytest.raises(StateMismatchError, match="next update would fail: it lacks 'exp_avg'"):
        trained("Adam").fit(batches(), num_epochs=3, resume=path)


def test_options_of_another_device_are_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    trained("Adam").save(path, optimizer_state=True)
    model = load_model(
        with_optimizer(path, lambda optimizer: optimizer["param_groups"][0].update(capturable=True))
    )
    assert model.optimizer.param_groups[0]["capturable"] is True


def test_state_of_complex_parameters_comes_back_to_lbfgs(tmp_path: Path) -> None:
    argus_core.register("nn_module", "complex", Complex)
    params = {"nn_module": "complex", "loss": "CrossEntropyLoss", "device": "cpu", "step": "closure"}
    model = Model(params | {"optimizer": ("LBFGS", {"max_iter": 3})})
    model.fit(batches())
    model.save(tmp_path / "a.safetensors", optimizer_state=True)
    loaded = load_model(tmp_path / "a.safetensors")
    assert same(loaded.optimizer.state_dict(), model.optimizer.state_dict())


def test_what_torch_itself_does_not_take_is_told_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    trained("Adam").save(path, optimizer_state=True)

    def split(optimizer: Any) -> None:
        [group] = optimizer["param_groups"]
        names = group["params"]
        optimizer["param_groups"] = [{**group, "params": names[:1]}, {**group, "params": names[1:]}]

    with pytest.raises(
        StateMismatchError,
        match="not fit Adam: ValueError: loaded state dict has a different number of parameter groups; load",
    ):
        load_model(with_optimizer(path, split))


class Wary(torch.optim.SGD):
    """An optimizer of somebody else's, which looks at its state."""

    def load_state_dict(self, state_dict: Any) -> None:
        raise RuntimeError("no such\nstate")


def test_what_an_optimizer_of_a_plugin_does_not_take_is_told_in_one_sentence(tmp_path: Path) -> None:
    argus_core.register("optimizer", "wary", Wary)
    path = tmp_path / "a.safetensors"
    trained("wary").save(path, optimizer_state=True)
    with pytest.raises(
        StateMismatchError, match="does not fit Wary: RuntimeError: no such state; load with optimizer=None"
    ):
        load_model(path)


def test_slots_that_share_memory_in_the_file_have_their_own_when_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    trained("Adam").save(path, optimizer_state=True)

    def share(optimizer: Any) -> None:
        slots = optimizer["state"]["hidden.weight"]
        slots["exp_avg"] = slots["exp_avg_sq"]

    slots = load_model(with_optimizer(path, share)).optimizer.state_dict()["state"][0]
    assert torch.equal(slots["exp_avg"], slots["exp_avg_sq"])
    assert slots["exp_avg"].data_ptr() != slots["exp_avg_sq"].data_ptr()


@pytest.mark.parametrize("shape", [(0,), (1,), (), (1, 1), (0, 0)])
@pytest.mark.parametrize(
    ("optimizer", "options"),
    [("Adam", {"fused": True}), ("SGD", {"fused": True, "momentum": 0.9}), ("Adagrad", {"fused": True})],
)
def test_slot_that_a_fused_update_would_read_beyond_its_end_is_refused(
    optimizer: str, options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    weight = nn.Parameter(torch.ones(3, 2))
    built = getattr(torch.optim, optimizer)([weight], lr=0.1, **options)
    slot = {"Adam": "exp_avg", "SGD": "momentum_buffer", "Adagrad": "sum"}[optimizer]
    check_entries(built, {"weight": weight}, {"weight": {slot: torch.zeros(3, 2), "step": torch.ones(())}})
    with pytest.raises(StateMismatchError, match=f"'{slot}' of 'weight' is float32.*; load"):
        check_entries(built, {"weight": weight}, {"weight": {slot: torch.zeros(shape)}})
