"""State of networks and optimizers, by the names of their parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from argus_core.errors import ArgusError, StateMismatchError
from argus_core.forms import check_module_forms, check_slots, form_of, misfit

if TYPE_CHECKING:
    from argus_core.model import Model

__all__ = [
    "check_optimizer_state",
    "load_extra_state",
    "load_module_state",
    "load_optimizer_state",
    "name_optimizer_state",
    "number_optimizer_state",
    "put_module_state",
]

_SHOWN = 5


def load_module_state(module: nn.Module, state: Mapping[str, Any], what: str) -> None:
    """Put ``state`` into ``module``, all of it or nothing.

    Raises:
        StateMismatchError: names, shapes or dtypes differ; says which.
    """
    check_module_forms(module, {name: form_of(value) for name, value in state.items()}, what)
    put_module_state(module, state, what)


def put_module_state(module: nn.Module, state: Mapping[str, Any], what: str) -> None:
    """Put a state whose forms have been checked into ``module``."""
    try:
        module.load_state_dict(state)
    except Exception as error:  # also of a hook, or of set_extra_state, which may raise anything
        raise misfit(what, " ".join(str(error).split())) from error


def load_extra_state(model: Model, state: Mapping[str, Any]) -> None:
    """Give a model's class its state back, if there is some."""
    if not state:
        return
    try:
        model.load_extra_state(state)
    except ArgusError:
        raise
    except Exception as error:  # the class may expect anything of what a file holds
        raise StateMismatchError(
            f"the stored extra state does not fit {type(model).__name__}: {type(error).__name__}: {error}; "
            "build it with the parameters it was saved with, or load with optimizer=None"
        ) from error


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


def check_optimizer_state(
    optimizer: Optimizer, state: Mapping[str, Any], names: list[str] | None, module: nn.Module
) -> None:
    """Check that a numbered state fits ``optimizer``, as far as names and shapes say it.

    Args:
        state: as `torch.optim.Optimizer.state_dict` has it.
        names: the stored parameters' names by number, where known: they are matched with the module's.

    Raises:
        StateMismatchError: it belongs to other parameters.
    """
    built = _names(optimizer, module)
    if names is not None and sorted(names) != sorted(built):
        differing = sorted(set(names) ^ set(built))[:_SHOWN] or ["some of them twice"]
        raise StateMismatchError(
            f"the stored optimizer state belongs to other parameters ({', '.join(differing)}); "
            "load with optimizer=None, or train the same parameters"
        )
    slots = state.get("state")
    if not isinstance(slots, Mapping):
        return  # torch says so
    stored = dict(enumerate(built if names is None else names))
    check_slots(
        optimizer,
        dict(zip(built, _parameters(optimizer), strict=True)),
        {
            stored[number]: each
            for number, each in slots.items()
            if number in stored and isinstance(each, Mapping)
        },
    )


def load_optimizer_state(
    optimizer: Optimizer, state: Mapping[str, Any], names: list[str] | None, module: nn.Module
) -> None:
    """Put a numbered ``state`` into ``optimizer``; see `check_optimizer_state`.

    Raises:
        StateMismatchError: it belongs to other parameters, or is none.
    """
    try:
        check_optimizer_state(optimizer, state, names, module)
        built = _names(optimizer, module)
        if names is not None and names != built:
            state = _renumber(state, [names.index(name) for name in built])
        optimizer.load_state_dict(dict(state))
    except StateMismatchError:
        raise
    except Exception as error:  # an optimizer that is given what no optimizer saved may raise anything
        reason = " ".join(str(error).split())
        raise StateMismatchError(
            f"the stored optimizer state does not fit {type(optimizer).__name__}: {reason}; "
            "load with optimizer=None"
        ) from error


def _renumber(state: Mapping[str, Any], old_numbers: list[int]) -> dict[str, Any]:
    """Return ``state`` with its slots under new numbers; the groups stay as long as they were."""
    slots = state["state"]
    moved = {new: slots[old] for new, old in enumerate(old_numbers) if old in slots}
    return {"state": moved, "param_groups": state["param_groups"]}


def _names(optimizer: Optimizer, module: nn.Module) -> list[str]:
    known = {id(parameter): name for name, parameter in module.named_parameters()}
    return [known.get(id(each), f"#{number}") for number, each in enumerate(_parameters(optimizer))]


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
