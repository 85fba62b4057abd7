"""Checks that a stored state fits a built module or optimizer, before its tensors are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from argus_core.errors import StateMismatchError
from argus_core.registry.file_params import FileParam
from argus_core.storage.stored import is_number
from argus_core.text import shown

__all__ = [
    "ADVICE",
    "check_groups",
    "check_module_forms",
    "check_slots",
    "flat_length",
    "form_of",
    "is_of_torch",
    "numbered",
]

ADVICE = "build it with the parameters it was saved with, or give change_state_dict_func"
"""The next action in messages about a module's state that does not fit."""

_SHOWN = 5
_DEFAULT_DTYPES = {"float64", "float32", "bfloat16", "float16"}


def form_of(value: object) -> str:
    """Return the dtype and shape of a tensor, or the type of any other value, as text for messages."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{_name(value.dtype)}{list(value.shape)}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def check_module_forms(module: nn.Module, forms: Mapping[str, str], what: str) -> None:
    """Check that a state whose values have these forms fits a module.

    Raises:
        StateMismatchError: names, shapes or dtypes differ; the message lists them.
    """
    built = module.state_dict()
    problems = list(_differences(built, forms))
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if problems[_SHOWN:] else ""
        shown = "; ".join(problems[:_SHOWN]) + more
        advice = _default_dtype_advice(built, forms) or ADVICE
        raise StateMismatchError(f"the stored state does not fit {what}: {shown}; {advice}")


def _default_dtype_advice(built: Mapping[str, Any], stored: Mapping[str, str]) -> str:
    """Return the next action where only floating-point dtypes differ, and the built module has the default.

    The likely cause is torch's default dtype when the saved module was built, which params do not record.
    """
    if built.keys() != stored.keys():
        return ""
    ours, theirs = set(), set()
    for name, value in built.items():
        if _is_fixed(name, value) and form_of(value) != stored[name]:
            dtype, _, shape = stored[name].partition("[")
            if form_of(value).partition("[")[2] != shape:
                return ""
            ours.add(value.dtype)
            theirs.add(dtype)
    default = torch.get_default_dtype()
    if ours != {default} or len(theirs) > 1 or not theirs <= _DEFAULT_DTYPES:
        return ""
    (dtype,) = theirs
    return (
        f"torch's default dtype was likely {dtype} when it was built: it is {_name(default)} here; call "
        f"torch.set_default_dtype(torch.{dtype}) before, or give change_state_dict_func"
    )


def _differences(built: Mapping[str, Any], stored: Mapping[str, str]) -> Iterator[str]:
    yield from (f"{name!r} is missing from the file" for name in built if name not in stored)
    yield from (f"{name!r} is not in what was built" for name in stored if name not in built)
    for name, ours in built.items():
        if name in stored and _is_fixed(name, ours) and form_of(ours) != stored[name]:
            yield f"{name!r} is {stored[name]} in the file and {form_of(ours)} in what was built"


def _is_fixed(name: str, built: Any) -> bool:
    """Return whether a state must have the form of the built value, as for all tensors but a few."""
    is_lazy = hasattr(built, "materialize")  # takes the form of the loaded tensor
    is_extra = name.rpartition(".")[2] == "_extra_state"  # of any size and type, checked by the module
    return isinstance(built, Tensor) and not is_lazy and not is_extra


def is_of_torch(optimizer: Optimizer) -> bool:
    """Return whether an optimizer is one of torch's own, whose state has a known form."""
    return f"{type(optimizer).__module__}.".startswith("torch.optim.")


def flat_length(parameters: Iterable[Tensor]) -> int:
    """Return the total of real numbers in parameters, which LBFGS keeps in one flat tensor."""
    return sum(parameter.numel() * (1 + parameter.is_complex()) for parameter in parameters)


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
    number = {old: new for new, old in enumerate(_numbers(stored["param_groups"]))}
    groups = [
        {**group, "params": [number[old] for old in group["params"]]} for group in stored["param_groups"]
    ]
    slots = {number[old]: dict(each) for old, each in stored["state"].items()}
    return {**stored, "state": slots, "param_groups": groups}


def _numbers(groups: Iterable[Mapping[str, Any]]) -> list[int]:
    return [number for group in groups for number in group["params"]]


def _problem(state: Any) -> str | None:
    """Return the first difference from the form of an optimizer's state dict, or ``None``."""
    if not isinstance(state, Mapping) or not {"state", "param_groups"} <= state.keys():
        return "it is not a dict of state and param_groups"
    groups, slots = state["param_groups"], state["state"]
    if not isinstance(groups, list | tuple) or not all(isinstance(group, Mapping) for group in groups):
        return "its param_groups are not a list of dicts"
    if not all(isinstance(group.get("params"), list | tuple) for group in groups):
        return "its param_groups do not list their params"
    numbers = _numbers(groups)
    if any(type(number) is not int for number in numbers) or len(known := {*numbers}) < len(numbers):
        return "the params of its param_groups are not numbers, each once"
    if not isinstance(slots, Mapping) or not all(isinstance(each, Mapping) for each in slots.values()):
        return "its state is not a dict of dicts"
    others = [key for key in slots if type(key) is not int or key not in known]
    return f"it has the state of {shown(others[0])}, which none of its param_groups has" if others else None


# The slots of torch's optimizers whose shape is not the parameter's: counts, rates, Adafactor's factors.
_OF_ONE_NUMBER = frozenset(("step", "eta", "mu", "mu_product"))
_REDUCED = frozenset(("row_var", "col_var"))


def check_slots(
    optimizer: Optimizer, parameters: Mapping[str, Tensor], state: Mapping[str, Mapping[str, Any]]
) -> None:
    """Check that stored slots have the shapes that one of torch's own optimizers gives them.

    torch itself takes slots of any shape, and fails at the next update. Slots of other optimizers are not
    checked.

    Args:
        optimizer: the built optimizer.
        parameters: its parameters by name.
        state: the stored slots by parameter and slot.

    Raises:
        StateMismatchError: a slot does not fit its parameter.
    """
    if not is_of_torch(optimizer):
        return
    together = flat_length(parameters.values())
    whole = isinstance(optimizer, torch.optim.LBFGS)  # keeps all parameters' numbers in one flat tensor
    for name, slots in state.items():
        for slot, value in slots.items():
            for tensor in _tensors(value):
                fits = (
                    tensor.numel() <= 1 or tensor.shape == (together,)
                    if whole
                    else _is_slot(slot, tensor, parameters[name])
                )
                if not fits:
                    raise StateMismatchError(
                        f"the stored optimizer state does not fit {type(optimizer).__name__}: {slot!r} of "
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
    has_tensors = isinstance(value, Mapping) or any(True for _ in _tensors(value))
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


def _is_slot(slot: str, tensor: Tensor, parameter: Tensor) -> bool:
    """Return whether a tensor has the parameter's shape, or the special shape of this slot.

    torch's fused updates read a slot of any shape as if it had the parameter's.
    """
    if slot in _OF_ONE_NUMBER:
        return tensor.numel() == 1
    if slot not in _REDUCED:
        return tensor.shape == parameter.shape
    return tensor.dim() == parameter.dim() and all(
        length in (1, expected) for length, expected in zip(tensor.shape, parameter.shape, strict=True)
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
