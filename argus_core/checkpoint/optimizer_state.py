"""An optimizer's state: named for checkpoints, numbered for torch; the checks that it fits an optimizer.

``restoring.py`` matches the names with an optimizer's parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from argus_core.checkpoint.module_state import form_of
from argus_core.errors import StateMismatchError
from argus_core.registry.file_params import FileParam
from argus_core.storage.stored import is_number
from argus_core.tensors.listing import tensors_in
from argus_core.text import shown

__all__ = [
    "check_entries",
    "check_groups",
    "flat_length",
    "is_of_torch",
    "members",
    "name_optimizer_state",
    "number_optimizer_state",
    "numbered",
    "parameter_names",
    "parameters_of",
    "renumbered",
]


def name_optimizer_state(optimizer: Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the optimizer's state dict with parameters' names in place of numbers.

    A parameter that is not among ``parameters`` is named ``#<number>``.
    """
    names = parameter_names(optimizer, parameters)
    return _relabelled(optimizer.state_dict(), dict(enumerate(names)))


def number_optimizer_state(named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state dict in torch's form: parameters numbered in the order of their groups."""
    return _relabelled(named, {name: number for number, name in enumerate(members(named["param_groups"]))})


def numbered(optimizer: Optimizer, state: object) -> dict[str, Any]:
    """Return a checked state with its parameters numbered from 0 in the order of their groups.

    Args:
        optimizer: the built optimizer.
        state: stored, in any form; older versions of torch numbered differently.

    Raises:
        StateMismatchError: it does not have the form of an optimizer's state.
    """
    if problem := _problem(state):
        raise StateMismatchError(
            f"the stored optimizer state does not fit {type(optimizer).__name__}: {problem}; load with "
            "optimizer=None"
        )
    stored: Any = state
    return number_optimizer_state(stored)


def renumbered(state: Mapping[str, Any], old_numbers: list[int]) -> dict[str, Any]:
    """Return ``state`` with its entries under new numbers; groups keep their lengths."""
    entries = state["state"]
    moved = {new: entries[old] for new, old in enumerate(old_numbers) if old in entries}
    return {**state, "state": moved}


def parameter_names(optimizer: Optimizer, parameters: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the optimizer's parameters by number; ``#<number>`` for an unknown one."""
    known = {id(parameter): name for name, parameter in parameters.items()}
    return [known.get(id(each), f"#{number}") for number, each in enumerate(parameters_of(optimizer))]


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    """Return the optimizer's parameters by number: in the order of its groups."""
    return members(optimizer.param_groups)


def is_of_torch(optimizer: Optimizer) -> bool:
    """Return whether an optimizer is one of torch's own, whose state has a known form."""
    return f"{type(optimizer).__module__}.".startswith("torch.optim.")


def flat_length(parameters: Iterable[Tensor]) -> int:
    """Return the total of real numbers in parameters, which LBFGS keeps in one flat tensor."""
    return sum(parameter.numel() * (1 + parameter.is_complex()) for parameter in parameters)


def members(groups: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Return the parameters of groups, their names or their numbers, in order."""
    return [parameter for group in groups for parameter in group["params"]]


def _relabelled(state: Mapping[str, Any], label: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a state with other names or numbers of its parameters."""
    groups = [
        {**group, "params": [label[each] for each in group["params"]]} for group in state["param_groups"]
    ]
    entries = {label[each]: dict(kept) for each, kept in state["state"].items()}
    return {**state, "state": entries, "param_groups": groups}


def _problem(state: Any) -> str | None:
    """Return the first difference from the form of an optimizer's state dict, or ``None``."""
    if not isinstance(state, Mapping) or not {"state", "param_groups"} <= state.keys():
        return "it is not a dict of state and param_groups"
    groups, entries = state["param_groups"], state["state"]
    if not isinstance(groups, list | tuple) or not all(isinstance(group, Mapping) for group in groups):
        return "its param_groups are not a list of dicts"
    if not all(isinstance(group.get("params"), list | tuple) for group in groups):
        return "its param_groups do not list their params"
    numbers = members(groups)
    if any(type(number) is not int for number in numbers) or len(known := {*numbers}) < len(numbers):
        return "the params of its param_groups are not numbers, each once"
    if not isinstance(entries, Mapping) or not all(isinstance(each, Mapping) for each in entries.values()):
        return "its state is not a dict of dicts"
    others = [key for key in entries if type(key) is not int or key not in known]
    return f"it has the state of {shown(others[0])}, which none of its param_groups has" if others else None


# The entries of torch's optimizers whose shape is not the parameter's: counts, rates, Adafactor's factors.
_OF_ONE_NUMBER = frozenset(("step", "eta", "mu", "mu_product"))
_REDUCED = frozenset(("row_var", "col_var"))


def check_entries(
    optimizer: Optimizer, parameters: Mapping[str, Tensor], state: Mapping[str, Mapping[str, Any]]
) -> None:
    """Check that stored entries have the shapes that one of torch's own optimizers gives them.

    torch itself takes entries of any shape, and fails at the next update. Entries of other optimizers are
    not checked.

    Args:
        optimizer: the built optimizer.
        parameters: its parameters by name.
        state: the stored entries by parameter and name, such as ``exp_avg``.

    Raises:
        StateMismatchError: an entry does not fit its parameter.
    """
    if not is_of_torch(optimizer):
        return
    together = flat_length(parameters.values())
    whole = isinstance(optimizer, torch.optim.LBFGS)  # keeps all parameters' numbers in one flat tensor
    for name, entries in state.items():
        for entry, value in entries.items():
            for tensor in tensors_in(value):
                fits = (
                    tensor.numel() <= 1 or tensor.shape == (together,)
                    if whole
                    else _is_entry(entry, tensor, parameters[name])
                )
                if not fits:
                    raise StateMismatchError(
                        f"the stored optimizer state does not fit {type(optimizer).__name__}: {entry!r} of "
                        f"{name!r} is {form_of(tensor)} and the parameter {form_of(parameters[name])}; "
                        "load with optimizer=None"
                    )


def check_groups(
    optimizer: Optimizer, stored: Iterable[Mapping[str, Any]], rules: Mapping[str, FileParam]
) -> None:
    """Check that stored options have the types that one of torch's own optimizers gives them.

    torch itself takes options of any type, and fails at the next update.

    Args:
        optimizer: the built optimizer.
        stored: the stored parameter groups.
        rules: which options a file may set, as the optimizer's factory declares them.

    Raises:
        StateMismatchError: an option does not fit the optimizer.
    """
    for own, group in zip(optimizer.param_groups, stored, strict=False):
        for name, value in own.items():
            if name == "params" or name not in group:
                continue
            is_allowed = (
                name not in rules or rules[name].allows(group[name]) or repr(group[name]) == repr(value)
            )
            if is_allowed and (not is_of_torch(optimizer) or _is_option(value, group[name])):
                continue
            raise StateMismatchError(
                f"the stored optimizer state does not fit {type(optimizer).__name__}: {name} is "
                f"{_shown_option(group[name])} in the file and {_shown_option(value)} in what was built; "
                "load with optimizer=None"
            )


def _shown_option(value: Any) -> str:
    """Return an option as text for a message, without tensors' values, which have not been read yet."""
    has_tensors = isinstance(value, Mapping) or any(True for _ in tensors_in(value))
    return form_of(value) if has_tensors else shown(value)


def _is_option(own: Any, stored: Any) -> bool:
    """Return whether a stored option may replace an optimizer's own."""
    if isinstance(own, tuple | list):
        return (
            isinstance(stored, tuple | list) and len(stored) == len(own) and all(map(_is_option, own, stored))
        )
    if own is None:  # decided by torch, as foreach is, or off, as line_search_fn is
        return stored is None or type(stored) in (bool, int, float, str)
    if isinstance(own, str):
        return isinstance(stored, str)
    if isinstance(own, bool):
        return stored is None or type(stored) is bool
    if isinstance(own, int | float | Tensor):
        return (
            is_number(stored) or type(stored) is bool or (isinstance(stored, Tensor) and stored.numel() == 1)
        )
    return True


def _is_entry(entry: str, tensor: Tensor, parameter: Tensor) -> bool:
    """Return whether a tensor has the parameter's shape, or the special shape of this entry.

    torch's fused updates read an entry of any shape as if it had the parameter's.
    """
    if entry in _OF_ONE_NUMBER:
        return tensor.numel() == 1
    if entry not in _REDUCED:
        return tensor.shape == parameter.shape
    return tensor.dim() == parameter.dim() and all(
        length in (1, expected) for length, expected in zip(tensor.shape, parameter.shape, strict=True)
    )
