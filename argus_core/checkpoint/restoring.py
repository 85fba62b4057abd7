"""Restoring the state of a model's parts from a checkpoint, matched by the names of their parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import LBFGS

from argus_core.abstract_model import AbstractModel
from argus_core.checkpoint.abstract_saved import AbstractSaved, Numbered
from argus_core.checkpoint.module_state import load_module, load_module_state
from argus_core.checkpoint.optimizer_state import (
    check_entries,
    check_groups,
    numbered,
    parameter_names,
    parameters_of,
    renumbered,
)
from argus_core.checkpoint.rehearsal import rehearse
from argus_core.errors import StateMismatchError
from argus_core.registry.file_params import file_params_of
from argus_core.steps.parameters import PREFIX, loss_parameters, named_parameters
from argus_core.storage.mismatch import fitting

__all__ = ["Changed", "load_saved"]

Changed = tuple[Mapping[str, Any], Any]
"""The network's and the optimizer's state dict that replace the saved ones."""

_SHOWN = 5


def load_saved(
    model: AbstractModel,
    saved: AbstractSaved,
    *,
    parts: Iterable[str],
    optimizer: bool = True,
    extra: bool = True,
    changed: Changed | None = None,
) -> bool:
    """Load saved state into the parts of a model.

    Args:
        model: built, with any initial values.
        saved: the contents of the checkpoint.
        parts: those whose module state is loaded, since they are still the saved components.
        optimizer: whether to load the optimizer's state.
        extra: whether to load the model class's own state.
        changed: replaces the saved state of the network and the optimizer.

    Returns whether an optimizer state was loaded.

    Raises:
        StateMismatchError: a state does not fit its built part; the message names the part.
    """
    parts = tuple(parts)
    place = None
    if model.parallel.is_sharded:
        from argus_core.checkpoint.shared_tensors import Shards  # lazy: most runs have one process

        place = model.parallel.place
        saved.read_in_shards(Shards(model))
    for name in parts:
        module = model.get_nn_module() if name == "nn_module" else getattr(model, name)
        if isinstance(module, nn.Module):
            part = model.parts[name]
            title = name if part is None else f"{name} {part.name!r}"
            if changed is None or name != "nn_module":
                load_module(saved, name, module, title, place)
            else:
                load_module_state(module, changed[0], title, place)
    model.load_module_modes(
        {part: names for part, names in saved.modes().items() if part in ("nn_module", *parts)}
    )
    step_state = saved.step_state(part.component.name for part in model.step_parts if part.component)
    same_loss = "loss" in parts
    model.load_step_state(step_state if same_loss else _without_loss(model, step_state))
    state = None
    if optimizer:
        state, names = (changed[1], None) if changed else _saved_optimizer(model, saved, same_loss)
        if state is not None:
            _load_optimizer_state(model, state, names, same_loss)
    if extra:
        _load_extra_state(model, saved.extra_state())
    return state is not None


def _saved_optimizer(model: AbstractModel, saved: AbstractSaved, same_loss: bool) -> Numbered:
    """Return the saved optimizer's state, once its shapes fit the model's optimizer."""
    state, names = saved.optimizer_outline()
    if state is not None:
        _matched_to_parameters(model, state, names, same_loss)
    return saved.optimizer_state()


def _load_extra_state(model: AbstractModel, state: Mapping[str, Any]) -> None:
    """Restore the model class's own state, if any."""
    if not state:
        return
    advice = "build it with the parameters it was saved with, or load with optimizer=None"
    with fitting(type(model).__name__, advice, "extra state"):
        model.load_extra_state(state)


def _matched_to_parameters(
    model: AbstractModel, state: Mapping[str, Any], names: list[str] | None, same_loss: bool
) -> Mapping[str, Any]:
    """Return a stored state with the numbers of a model's optimizer, checked to fit it.

    Args:
        model: built with an optimizer.
        state: in the form of `torch.optim.Optimizer.state_dict`.
        names: the stored parameters' names by number, if known: they are matched with the model's.
        same_loss: whether the model's loss is the saved component.

    Raises:
        StateMismatchError: it belongs to other parameters, or the optimizer's next update would fail.
    """
    optimizer = model.optimizer
    stored, names = _with_loss(model, numbered(optimizer, state), names, same_loss)
    built = parameter_names(optimizer, named_parameters(model))
    if names is not None and names != built:
        _check_names(names, built)
        number = {name: each for each, name in enumerate(names)}
        stored = renumbered(stored, [number[name] for name in built])
    part = model.parts["optimizer"]
    check_groups(optimizer, stored["param_groups"], {} if part is None else file_params_of(part.factory))
    check_entries(
        optimizer,
        dict(zip(built, parameters_of(optimizer), strict=True)),
        {built[number]: each for number, each in stored["state"].items() if number < len(built)},
    )
    return stored


def _check_names(stored: list[str], built: list[str]) -> None:
    if sorted(stored) != sorted(built):
        differing = sorted(set(stored) ^ set(built))[:_SHOWN] or ["some of them twice"]
        raise StateMismatchError(
            f"the stored optimizer state belongs to other parameters ({', '.join(differing)}); "
            "load with optimizer=None, or train the same parameters"
        )


def _load_optimizer_state(
    model: AbstractModel, state: Mapping[str, Any], names: list[str] | None, same_loss: bool
) -> None:
    """Load a numbered ``state`` into a model's optimizer; see `_matched_to_parameters`."""
    optimizer = model.optimizer
    stored = _matched_to_parameters(model, state, names, same_loss)
    rehearse(optimizer, stored)
    with fitting(type(optimizer).__name__, "load with optimizer=None", "optimizer state"):
        state = _unshared(stored, set())
        if model.parallel.is_sharded:
            state = _in_shards(model, state)
        optimizer.load_state_dict(state)


def _in_shards(model: AbstractModel, state: Any) -> dict[str, Any]:
    """Return a numbered state with the shards of its tensors that have the shape of their parameter."""
    parameters = parameters_of(model.optimizer)

    def placed(parameter: Tensor, value: Any) -> Any:
        has_shape = isinstance(value, Tensor) and value.shape == parameter.shape
        return model.parallel.place(parameter, value) if has_shape else value

    entries = {
        number: {key: placed(parameters[number], value) for key, value in values.items()}
        for number, values in state["state"].items()
    }
    return {**state, "state": entries}


def _unshared(value: Any, used: set[int]) -> Any:
    """Return a state in which tensors share no memory, since updates write to them."""
    if isinstance(value, Tensor):
        memory = value.untyped_storage()._cdata
        is_own = memory not in used and (
            value.is_contiguous() or value.stride() == torch.empty_like(value, device="meta").stride()
        )
        used.add(memory)
        return value if is_own else value.clone()
    if isinstance(value, dict):
        return {key: _unshared(item, used) for key, item in value.items()}
    return type(value)([_unshared(item, used) for item in value]) if type(value) in (list, tuple) else value


def _with_loss(
    model: AbstractModel, state: Mapping[str, Any], names: list[str] | None, same_loss: bool
) -> tuple[Mapping[str, Any], list[str] | None]:
    """Return a state without the parameters of a removed loss, and with those of a new one.

    A new loss's parameters get the state of a new optimizer. So do those of a loss that the state does not
    contain: older versions of argus_core trained only the network.

    Raises:
        StateMismatchError: the state lacks parameters, or belongs to others.
    """
    optimizer = model.optimizer
    of_loss = loss_parameters(model).keys()
    if not of_loss and not any(name.startswith(PREFIX) for name in names or ()):
        return state, names
    built = parameter_names(optimizer, named_parameters(model))
    if names is None:  # from pytorch-argus, which trains only the network
        others = [name for name in built if name not in of_loss]
        count = sum(len(group["params"]) for group in state["param_groups"])
        names = others if len(others) == count < len(built) else None
    network = named_parameters(model).keys() - of_loss
    gone = {name for name in names or () if name.startswith(PREFIX) and name not in network}
    if names is None or (same_loss and gone) or not (gone or of_loss & set(built)):
        return state, names
    kept = [name for name in names if name not in gone]
    _check_names(kept, [name for name in built if name not in of_loss])
    if isinstance(optimizer, LBFGS) and state["state"]:
        raise StateMismatchError(
            "the stored optimizer state is LBFGS's, one of all parameters together, and the loss has others "
            "now; load with optimizer=None"
        )
    fresh, number = optimizer.state_dict(), {name: each for each, name in enumerate(names)}
    group_of = {names[each]: group for group in state["param_groups"] for each in group["params"]}
    groups = []
    for group in fresh["param_groups"]:
        members = [built[each] for each in group["params"]]
        stored = next((group_of[name] for name in members if name not in of_loss), group)
        groups.append({**stored, "params": group["params"]})
    entries = {
        each: fresh["state"].get(each) if name in of_loss else state["state"].get(number[name])
        for each, name in enumerate(built)
    }
    entries = {each: value for each, value in entries.items() if value is not None}
    return {"state": entries, "param_groups": groups}, built


def _without_loss(model: AbstractModel, step_state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of step strategies without averages of a replaced loss's parameters."""
    names, left = loss_parameters(model).keys(), dict(step_state)
    for step, key in model.evaluated_state().items():
        averages = left.get(step, {}).get(key)
        if isinstance(averages, dict):
            kept = {name: each for name, each in averages.items() if name not in names}
            left[step] = {**left[step], key: kept}
    return left
