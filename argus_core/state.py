"""State of networks and optimizers, by the names of their parameters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from argus_core.errors import StateMismatchError
from argus_core.mismatch import fitting

if TYPE_CHECKING:
    from argus_core.model import Model
    from argus_core.saved import AbstractSaved

__all__ = [
    "load_module_state",
    "load_saved",
    "name_optimizer_state",
    "number_optimizer_state",
    "set_options",
]

_SHOWN = 5
_ADVICE = "build it with the parameters it was saved with, or give change_state_dict_func"


def load_module_state(module: nn.Module, state: Mapping[str, Any], what: str) -> None:
    """Put ``state`` into ``module``, all of it or nothing.

    Raises:
        StateMismatchError: names, shapes or dtypes differ; says which.
    """
    built = module.state_dict()
    problems = _differences(built, state)
    if problems:
        shown = "; ".join(problems[:_SHOWN]) + (
            f"; and {len(problems) - _SHOWN} more" if problems[_SHOWN:] else ""
        )
        raise StateMismatchError(f"the stored state does not fit {what}: {shown}; {_ADVICE}")
    with fitting(what, _ADVICE):  # of a hook, or of set_extra_state
        module.load_state_dict(_with_versions(state, built))


def _with_versions(state: Mapping[str, Any], built: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a state that fits as one of the version, module by module, of what was built.

    Without a version a module may take a state for one of its first release, or refuse it.
    """
    if hasattr(state, "_metadata"):
        return state
    versioned = OrderedDict(state)
    versioned._metadata = getattr(built, "_metadata", None)  # type: ignore[attr-defined]
    return versioned


def _differences(built: Mapping[str, Any], stored: Mapping[str, Any]) -> list[str]:
    problems = [f"{name!r} is missing from the file" for name in built if name not in stored]
    problems += [f"{name!r} is not in what was built" for name in stored if name not in built]
    for name, ours in built.items():
        if name in stored and _is_fixed(name, ours) and _form(ours) != _form(stored[name]):
            problems.append(
                f"{name!r} is {_form(stored[name])} in the file and {_form(ours)} in what was built"
            )
    return problems


def _is_fixed(name: str, built: Any) -> bool:
    """Return whether what was built decides the form, as for all tensors but a few."""
    is_lazy = hasattr(built, "materialize")  # takes its form from what is loaded
    is_extra = name.rpartition(".")[2] == "_extra_state"  # the module's own business, of any size and type
    return isinstance(built, torch.Tensor) and not is_lazy and not is_extra


def _form(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"


def load_saved(
    model: Model,
    saved: AbstractSaved,
    *,
    modules: Iterable[str],
    network: Mapping[str, Any] | None = None,
    optimizer: tuple[Mapping[str, Any] | None, list[str] | None] = (None, None),
    extra: bool = True,
) -> None:
    """Put what is saved into the parts of a model.

    Args:
        model: built, with whatever initial values.
        saved: where the state comes from.
        modules: the parts that take their module's state: those that are still what was saved.
        network: the network's state dict, if it is another than is saved.
        optimizer: its numbered state dict, and the parameters' names by number where known.
        extra: whether the model's class takes its own state back.

    Raises:
        StateMismatchError: some state does not fit what was built; says which.
    """
    for slot in modules:
        module = model.get_nn_module() if slot == "nn_module" else getattr(model, slot)
        if isinstance(module, nn.Module):
            changed = network if slot == "nn_module" else None
            part = model.parts[slot]
            title = slot if part is None else f"{slot} {part.name!r}"
            load_module_state(module, saved.module_state(slot) if changed is None else changed, title)
    model.load_step_state(
        saved.step_state(part.component.name for part in model.step_parts if part.component)
    )
    state, names = optimizer
    if state is not None:
        _load_optimizer_state(model.optimizer, state, names, model.get_nn_module())
    if extra:
        _load_extra_state(model, saved.extra_state())


def set_options(optimizer: Any, options: Mapping[str, Any]) -> None:
    """Let options win over those in the parameter groups, where they have them."""
    for group in optimizer.param_groups:
        group.update({name: value for name, value in options.items() if name in group})


def _load_extra_state(model: Model, state: Mapping[str, Any]) -> None:
    """Give a model's class its state back, if there is some."""
    if not state:
        return
    advice = "build it with the parameters it was saved with, or load with optimizer=None"
    with fitting(type(model).__name__, advice, "extra state"):
        model.load_extra_state(state)


def name_optimizer_state(optimizer: Optimizer, module: nn.Module) -> dict[str, Any]:
    """Return the optimizer's state dict with each parameter's name in the place of its number.

    A parameter that is not the module's is called ``#<number>``.
    """
    numbered = optimizer.state_dict()
    names = _names(optimizer, module)
    groups = [
        {**group, "params": [names[number] for number in group["params"]]}
        for group in numbered["param_groups"]
    ]
    state = {names[number]: dict(slots) for number, slots in numbered["state"].items()}
    return {"state": state, "param_groups": groups}


def number_optimizer_state(named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state dict as torch has it: with parameters numbered in the order of their groups."""
    names = [name for group in named["param_groups"] for name in group["params"]]
    number = {name: index for index, name in enumerate(names)}
    groups = [
        {**group, "params": [number[name] for name in group["params"]]} for group in named["param_groups"]
    ]
    return {"state": {number[name]: slots for name, slots in named["state"].items()}, "param_groups": groups}


def _load_optimizer_state(
    optimizer: Optimizer, state: Mapping[str, Any], names: list[str] | None, module: nn.Module
) -> None:
    """Put a numbered ``state`` into ``optimizer``.

    Args:
        state: as `torch.optim.Optimizer.state_dict` has it.
        names: the stored parameters' names by number, where known: they are matched with the module's.

    Raises:
        StateMismatchError: it belongs to other parameters.
    """
    built = _names(optimizer, module)
    if names is not None and names != built:
        if sorted(names) != sorted(built):
            differing = sorted(set(names) ^ set(built))[:_SHOWN]
            raise StateMismatchError(
                f"the stored optimizer state belongs to other parameters ({', '.join(differing)}); "
                "load with optimizer=None, or train the same parameters"
            )
        state = _renumber(state, [names.index(name) for name in built])
    with fitting(type(optimizer).__name__, "load with optimizer=None", "optimizer state"):
        optimizer.load_state_dict(dict(state))


def _renumber(state: Mapping[str, Any], old_numbers: list[int]) -> dict[str, Any]:
    """Return ``state`` with its slots under new numbers; the groups stay as long as they were."""
    slots = state["state"]
    moved = {new: slots[old] for new, old in enumerate(old_numbers) if old in slots}
    return {"state": moved, "param_groups": state["param_groups"]}


def _names(optimizer: Optimizer, module: nn.Module) -> list[str]:
    known = {id(parameter): name for name, parameter in module.named_parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [known.get(id(parameter), f"#{number}") for number, parameter in enumerate(parameters)]
