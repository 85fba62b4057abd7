"""A trial update of an optimizer with a stored state, on small parameters, before the state is loaded.

torch's own optimizers load a state that lacks an entry, or whose entries have other forms, and fail at the
first update. Other optimizers are not checked.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import LBFGS, Optimizer, SparseAdam

from argus_core.checkpoint.optimizer_state import flat_length, is_of_torch
from argus_core.errors import StateMismatchError

__all__ = ["rehearse"]

_LENGTH = 2
# Options of the implementation, which this machine may lack, and the number of LBFGS's evaluations.
_OPTIONS = {"foreach": None, "fused": None, "capturable": False, "max_iter": 1}

Member = tuple[Tensor, Any]
"""A small parameter and its entries."""


def rehearse(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Check that one of torch's own optimizers can make an update with a state.

    Args:
        optimizer: the built optimizer.
        state: as `numbered` returns it, of the shapes that `check_entries` lets pass.

    Raises:
        StateMismatchError: the update fails.
    """
    sizes = [
        [len(group["params"]) for group in each] for each in (optimizer.param_groups, state["param_groups"])
    ]
    if not is_of_torch(optimizer) or sizes[0] != sizes[1]:  # torch reports different sizes itself
        return
    try:
        _update(optimizer, *_reduced(optimizer, state))
    except Exception as error:  # of any type: torch uses entries and options unchecked
        reason = " ".join(str(error).split())
        if isinstance(error, KeyError):
            reason = f"it lacks {error.args[0]!r}"
        raise StateMismatchError(
            f"the stored optimizer state does not fit {type(optimizer).__name__}, whose next update would "
            f"fail: {reason}; load with optimizer=None"
        ) from error


def _update(optimizer: Optimizer, groups: list[list[Member]], options: list[dict[str, Any]]) -> None:
    kind: Any = type(optimizer)
    rehearsed = kind([{"params": [parameter for parameter, _ in members]} for members in groups])
    everything = [member for members in groups for member in members]
    entries = {number: values for number, (_, values) in enumerate(everything) if values is not None}
    rehearsed.load_state_dict({"state": entries, "param_groups": options})
    for parameter, _ in everything:
        gradient = torch.ones_like(parameter)
        parameter.grad = gradient.to_sparse(1) if kind is SparseAdam else gradient
    rehearsed.step(lambda: torch.zeros(()))


def _reduced(
    optimizer: Optimizer, state: Mapping[str, Any]
) -> tuple[list[list[Member]], list[dict[str, Any]]]:
    """Return small parameters with their entries, by group, and the options of the groups."""
    groups: list[list[Member]] = []
    options: list[dict[str, Any]] = []
    for group, stored in zip(optimizer.param_groups, state["param_groups"], strict=True):
        members = list(_members(optimizer, group["params"], [*map(state["state"].get, stored["params"])]))
        first = sum(map(len, groups))
        reduced = _reduce({**stored, **{name: _OPTIONS[name] for name in _OPTIONS.keys() & stored.keys()}})
        if "history_size" in stored:  # LBFGS allocates memory for so many steps at once
            kept = max((len(each) for _, values in members for each in _lists(values)), default=0)
            reduced["history_size"] = min(stored["history_size"], kept + 1)
        groups.append(members)
        options.append({**reduced, "params": [*range(first, first + len(members))]})
    return groups, options


def _members(optimizer: Optimizer, parameters: list[Tensor], stored: list[Any]) -> Iterator[Member]:
    """Yield one member for all parameters of the same form."""
    if isinstance(optimizer, LBFGS):  # keeps all numbers in one flat tensor, with the first parameter
        parameters, stored = [torch.empty(flat_length(parameters), device="meta")], stored[:1]
    known: set[Hashable] = set()
    for parameter, values in zip(parameters, stored, strict=True):
        if is_lazy(parameter):
            continue
        shape = _reduced_shape(parameter)
        sign = (shape, parameter.dtype, _sign(values))
        if sign not in known:
            known.add(sign)
            yield torch.zeros(shape, dtype=parameter.dtype), _reduce(values)


def _reduced_shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple([min(length, _LENGTH) for length in tensor.shape])


def _reduce(value: Any) -> Any:
    """Return a value with its tensors of several numbers reduced to small ones on the CPU."""
    if isinstance(value, Tensor):
        if value.numel() == 1:
            return value.detach().to("cpu", copy=True)
        return torch.zeros(_reduced_shape(value), dtype=value.dtype)
    if isinstance(value, Mapping):
        return {key: _reduce(item) for key, item in value.items()}
    return type(value)(map(_reduce, value)) if type(value) in (list, tuple) else value


def _sign(value: Any) -> Hashable:
    """Return a key that is equal for values that an update treats alike once they are reduced."""
    if isinstance(value, Tensor):
        return (value.dtype, _reduced_shape(value), value.item() if value.numel() == 1 else None)
    if isinstance(value, Mapping):
        return tuple((key, _sign(item)) for key, item in value.items())
    return tuple(map(_sign, value)) if isinstance(value, list | tuple) else repr(value)


def _lists(values: Any) -> Iterator[list[Any]]:
    if isinstance(values, Mapping):
        yield from (value for value in values.values() if isinstance(value, list))
