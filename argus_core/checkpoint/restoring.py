"""State of networks and optimizers, by the names of their parameters."""

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
    """Put ``state`` into ``module``, all of it or nothing.

    Raises:
        StateMismatchError: names, shapes or dtypes differ; says which.
    """
    check_module_forms(module, {name: form_of(value) for name, value in state.items()}, what)
    put_module_state(module, state, what)


def load_module(saved: AbstractSaved, slot: str, module: nn.Module, what: str) -> None:
    """Put the state of a part into ``module``, which ``what`` is in messages.

    Raises:
        StateMismatchError: it does not fit; none of its tensors has been read then.
    """
    state = saved.module_state(slot, check=lambda forms: check_module_forms(module, forms, what))
    put_module_state(module, state, what)


def put_module_state(module: nn.Module, state: Mapping[str, Any], what: str) -> None:
    """Put a state whose forms have been checked into ``module``."""
    with fitting(what, ADVICE):  # of a hook, or of set_extra_state
        module.load_state_dict(_with_versions(state, module.state_dict()))


def _with_versions(state: Mapping[str, Any], built: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a state that fits as one of the version, module by module, of what was built.

    Without a version a module may take a state for one of its first release, or refuse it.
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
    """Put what is saved into the parts of a model.

    Args:
        model: built, with whatever initial values.
        saved: where the state comes from.
        modules: the parts that take their module's state: those that are still what was saved.
        network: the network's state dict, if it is another than is saved.
        optimizer: returns its numbered state dict and the parameters' names; asked once the network fits.
        extra: whether the model's class takes its own state back.

    Returns whether there was a state of the optimizer.

    Raises:
        StateMismatchError: some state does not fit what was built; says which.
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
    """Return the saved optimizer's numbered state, and names by number, compared before it is read.

    Args:
        model: built with an optimizer.
        saved: where the state comes from.
        same_loss: whether the model's loss is the one that was saved.

    Raises:
        StateMismatchError: it does not fit the model's optimizer.
    """
    return saved.optimizer_state(lambda state, names: _fitted(model, state, names, same_loss))


def _load_extra_state(model: AbstractModel, state: Mapping[str, Any]) -> None:
    """Give a model's class its state back, if there is some."""
    if not state:
        return
    advice = "build it with the parameters it was saved with, or load with optimizer=None"
    with fitting(type(model).__name__, advice, "extra state"):
        model.load_extra_state(state)


def _fitted(
    model: AbstractModel, state: Mapping[str, Any], names: list[str] | None, same_loss: bool
) -> Mapping[str, Any]:
    """Return a stored state for a model's optimizer, numbered as that is, once all is known to fit.

    Args:
        model: built with an optimizer.
        state: as `torch.optim.Optimizer.state_dict` has it.
        names: the stored parameters' names by number, where known: they are matched with the model's.
        same_loss: whether the model's loss is the one that was saved.

    Raises:
        StateMismatchError: it belongs to other parameters, or the optimizer could not go on with it.
    """
    optimizer = model.optimizer
    stored, names = _with_loss(model, numbered(optimizer, state), names, same_loss)
    built = parameter_names(optimizer, named_parameters(model))
    if names is not None and names != built:
        _check_names(names, built)
        number = {name: each for each, name in enumerate(names)}
        stored = renumbered(stored, [number[name] for name in built])
    check_groups(optimizer, stored["param_groups"])
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
    """Put a numbered ``state`` into a model's optimizer; see `_fitted`."""
    optimizer = model.optimizer
    stored = _fitted(model, state, names, same_loss)
    rehearse(optimizer, stored)
    with fitting(type(optimizer).__name__, "load with optimizer=None", "optimizer state"):
        optimizer.load_state_dict(_unshared(stored, set()))


def _unshared(value: Any, used: set[int]) -> Any:
    """Return a state in which each tensor has memory of its own, since updates write to it."""
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
    """Return a state without the parameters of a loss that has gone, and with those of a new one.

    A new loss's parameters begin with the state that a new optimizer has for them. So do those of a loss that
    the state says nothing of: older versions of argus_core trained the network alone.

    Raises:
        StateMismatchError: the state is not one of each parameter, or belongs to others.
    """
    optimizer = model.optimizer
    of_loss = loss_parameters(model).keys()
    if not of_loss and not any(name.startswith(PREFIX) for name in names or ()):
        return state, names
    built = parameter_names(optimizer, named_parameters(model))
    if names is None:  # of pytorch-argus, which trains the network alone
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
    """Return the state of step strategies without the averages of another loss under this one's names."""
    names, left = loss_parameters(model).keys(), dict(step_state)
    for step, key in model.evaluated_state().items():
        averages = left.get(step, {}).get(key)
        if isinstance(averages, dict):
            kept = {name: each for name, each in averages.items() if name not in names}
            left[step] = {**left[step], key: kept}
    return left
