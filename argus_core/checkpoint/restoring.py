"""Restoring the state of networks and optimizers, matched by the names of their parameters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import LBFGS

from argus_core.abstract_model import AbstractModel
from argus_core.checkpoint.abstract_saved import AbstractSaved
from argus_core.checkpoint.forms import (
    ADVICE,
    check_groups,
    check_module_forms,
    check_slots,
    form_of,
    numbered,
)
from argus_core.checkpoint.optimizer_state import parameter_names, parameters_of, renumbered
from argus_core.checkpoint.rehearsal import rehearse
from argus_core.errors import StateMismatchError
from argus_core.registry.file_params import file_params_of
from argus_core.steps.parameters import PREFIX, loss_parameters, named_parameters
from argus_core.storage.mismatch import fitting

__all__ = [
    "Numbered",
    "load_module",
    "load_module_state",
    "load_saved",
    "put_module_state",
    "saved_optimizer",
]

Numbered = tuple[Mapping[str, Any] | None, list[str] | None]
"""An optimizer's state dict with numbered parameters, and their names by number; None where unknown."""

_SHOWN = 5


def load_module_state(module: nn.Module, state: Mapping[str, Any], what: str) -> None:
    """Load ``state`` into ``module``, completely or not at all.

    Raises:
        StateMismatchError: names, shapes or dtypes differ; the message lists them.
    """
    check_module_forms(module, {name: form_of(value) for name, value in state.items()}, what)
    put_module_state(module, state, what)


def load_module(saved: AbstractSaved, slot: str, module: nn.Module, what: str) -> None:
    """Load the saved state of a part into ``module``, which messages call ``what``.

    Raises:
        StateMismatchError: the state does not fit; none of its tensors has been read.
    """
    state = saved.module_state(slot, check=lambda forms: check_module_forms(module, forms, what))
    put_module_state(module, state, what)


def put_module_state(module: nn.Module, state: Mapping[str, Any], what: str) -> None:
    """Load a state of checked form into ``module``."""
    with fitting(what, ADVICE):  # an error of a hook, or of set_extra_state
        module.load_state_dict(_with_versions(state, module.state_dict()))


def _with_versions(state: Mapping[str, Any], built: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a state with the version number of each built submodule.

    Without a version a module may treat the state as one of its first release, or reject it.
    """
    if hasattr(state, "_metadata"):
        return state
    versioned = OrderedDict(state)
    versioned._metadata = getattr(built, "_metadata", None)  # type: ignore[attr-defined]
    return versioned


def load_saved(
    model: AbstractModel,
    saved: AbstractSaved,
    *,
    modules: Iterable[str],
    network: Mapping[str, Any] | None = None,
    optimizer: Callable[[], Numbered] | None = None,
    extra: bool = True,
) -> bool:
    """Load saved state into the parts of a model.

    Args:
        model: built, with any initial values.
        saved: the contents of the checkpoint.
        modules: the parts whose module state is loaded: those that are still the saved components.
        network: the network's state dict, if it replaces the saved one.
        optimizer: returns its numbered state dict and the parameters' names; called once the network fits.
        extra: whether to load the model class's own state.

    Returns whether an optimizer state was loaded.

    Raises:
        StateMismatchError: a state does not fit its built part; the message names the part.
    """
    modules = tuple(modules)
    for slot in modules:
        module = model.get_nn_module() if slot == "nn_module" else getattr(model, slot)
        if isinstance(module, nn.Module):
            changed = network if slot == "nn_module" else None
            part = model.parts[slot]
            title = slot if part is None else f"{slot} {part.name!r}"
            if changed is None:
                load_module(saved, slot, module, title)
            else:
                load_module_state(module, changed, title)
    kept = {"nn_module", *modules}
    model.load_module_modes({slot: names for slot, names in saved.modes().items() if slot in kept})
    step_state = saved.step_state(part.component.name for part in model.step_parts if part.component)
    model.load_step_state(step_state if "loss" in modules else _without_loss(model, step_state))
    state, names = (None, None) if optimizer is None else optimizer()
    if state is not None:
        _load_optimizer_state(model, state, names, "loss" in modules)
    if extra:
        _load_extra_state(model, saved.extra_state())
    return state is not None


def saved_optimizer(model: AbstractModel, saved: AbstractSaved, same_loss: bool) -> Numbered:
    """Return the saved optimizer's numbered state, and names by number, checked before it is read.

    Args:
        model: built with an optimizer.
        saved: the contents of the checkpoint.
        same_loss: whether the model's loss is the saved component.

    Raises:
        StateMismatchError: it does not fit the model's optimizer.
    """
    return saved.optimizer_state(lambda state, names: _fitted(model, state, names, same_loss))


def _load_extra_state(model: AbstractModel, state: Mapping[str, Any]) -> None:
    """Restore the model class's own state, if any."""
    if not state:
        return
    advice = "build it with the parameters it was saved with, or load with optimizer=None"
    with fitting(type(model).__name__, advice, "extra state"):
        model.load_extra_state(state)


def _fitted(
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
    check_slots(
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
    """Load a numbered ``state`` into a model's optimizer; see `_fitted`."""
    optimizer = model.optimizer
    stored = _fitted(model, state, names, same_loss)
    rehearse(optimizer, stored)
    with fitting(type(optimizer).__name__, "load with optimizer=None", "optimizer state"):
        optimizer.load_state_dict(_unshared(stored, set()))


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
    slots = {
        each: fresh["state"].get(each) if name in of_loss else state["state"].get(number[name])
        for each, name in enumerate(built)
    }
    slots = {each: value for each, value in slots.items() if value is not None}
    return {"state": slots, "param_groups": groups}, built


def _without_loss(model: AbstractModel, step_state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of step strategies without averages of a replaced loss's parameters."""
    names, left = loss_parameters(model).keys(), dict(step_state)
    for step, key in model.evaluated_state().items():
        averages = left.get(step, {}).get(key)
        if isinstance(averages, dict):
            kept = {name: each for name, each in averages.items() if name not in names}
            left[step] = {**left[step], key: kept}
    return left
