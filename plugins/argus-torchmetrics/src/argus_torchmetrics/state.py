"""The state of a torchmetrics metric: reading, restoring, and joining that of several processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from argus_core.authors import COUNT, Rule, check_state

__all__ = ["get_state", "merge", "set_state"]

_UPDATES = "updates"
_TENSOR = Rule(lambda value: isinstance(value, torch.Tensor), "a tensor")
_LIST = Rule(lambda value: isinstance(value, list | torch.Tensor), "a list")  # not of interest to users


def get_state(metric: Metric) -> dict[str, Any]:
    """Return the number of updates and a copy of each state by name; updates change states in place."""
    state: dict[str, Any] = {}
    for prefix, part in _parts(metric):
        state[prefix + _UPDATES] = part._update_count
        for name in part._reductions:
            value = getattr(part, name)
            state[prefix + name] = list(value) if isinstance(value, list) else value.clone()
    return state


def set_state(metric: Metric, state: Mapping[str, Any]) -> None:
    """Restore a state that `get_state` or `merge` returned.

    Raises:
        UnsafeCheckpointError: a value has another type than in the metric.
    """
    check_state(f"metric {type(metric).__name__!r}", state, dict(_rules(metric)))
    for prefix, part in _parts(metric):
        part._update_count = state[prefix + _UPDATES]
        part._computed = None
        for name in part._reductions:
            value = state[prefix + name]
            place = torch.device("cpu") if part.compute_on_cpu and isinstance(value, list) else part.device
            setattr(part, name, _moved(value, place))


def merge(metric: Metric, states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join the states of several processes, in the order of their ranks.

    Each state is reduced by the function that its metric declares. A process without updates is skipped: some
    of these functions would treat its zeros and infinities as values.
    """
    merged: dict[str, Any] = {}
    for prefix, part in _parts(metric):
        seen = [state for state in states if state[prefix + _UPDATES]] or list(states[:1])
        merged[prefix + _UPDATES] = sum(state[prefix + _UPDATES] for state in seen)
        for name, reduction in part._reductions.items():
            values = [state[prefix + name] for state in seen]
            merged[prefix + name] = _reduced(values, reduction)
    return merged


def _rules(metric: Metric) -> Iterator[tuple[str, Rule]]:
    for prefix, part in _parts(metric):
        yield prefix + _UPDATES, COUNT
        for name, default in part._defaults.items():
            if name in part._reductions:
                yield prefix + name, _LIST if isinstance(default, list) else _TENSOR


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, list):
        return [_moved(each, device) for each in value]
    return value.to(device) if isinstance(value, torch.Tensor) else value


def _reduced(values: list[Any], reduction: Any) -> Any:
    if any(isinstance(value, list) for value in values):
        return [each for value in values for each in (value if isinstance(value, list) else [value])]
    if len(values) == 1:
        return values[0]
    if reduction is dim_zero_cat:
        return torch.cat(values)
    stacked = torch.stack(values)
    return stacked if reduction is None else reduction(stacked)


def _parts(metric: Metric) -> Iterator[tuple[str, Metric]]:
    """Yield the metric and its inner metrics, with the prefix of the names of their states."""
    for path, module in metric.named_modules():
        if isinstance(module, Metric):
            yield f"{path}." if path else "", module
