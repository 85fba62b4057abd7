"""What a metric is: a number that sums up a run's step outputs, the same however the data are cut."""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, ClassVar, Literal

import torch

from argus_core.errors import ArgusError
from argus_core.metrics.state import check_metric_state

__all__ = ["MeanMetric", "Metric", "Reduction"]

Reduction = Literal["sum", "max", "min"]

_EMPTY: Mapping[Reduction, float] = {"sum": 0, "max": float("-inf"), "min": float("inf")}
_JOIN: Mapping[Reduction, Callable[[Any, Any], Any]] = {
    "sum": operator.add,
    "max": lambda one, other: _elementwise(torch.maximum, max, one, other),
    "min": lambda one, other: _elementwise(torch.minimum, min, one, other),
}


class Metric(ABC):
    """Abstract metric: an engine resets it when an epoch starts, updates it and computes it at the end.

    Args:
        name: what the metric is called instead of its usual name.

    Attributes:
        name: ``"accuracy"`` becomes ``train_accuracy`` and ``val_accuracy`` among a run's metrics.
        better: whether a higher (``"max"``) or a lower (``"min"``) value is better; ``None`` if neither is.
        several: whether `compute` may return a mapping of values by name, an empty one too: ``"recall"`` of
            a metric ``"curve"`` becomes ``val_curve_recall``.
        reads_predictions: whether `update` reads predictions or targets; a run keeps none that nothing reads.
        states: for each attribute that holds state how the processes' values become one: ``"sum"``,
            ``"max"`` or ``"min"``. State is a number or a tensor on the device of the updates.
    """

    name: str
    better: Literal["max", "min"] | None = "max"
    several: bool = False
    reads_predictions: bool = True
    exact_types = True  # of `__init__` here
    states: ClassVar[Mapping[str, Reduction]] = {}

    def __init__(self, name: str | None = None) -> None:
        if name is not None:
            self.name = name

    def reset(self) -> None:
        """Forget all updates."""
        for state, reduction in self.states.items():
            setattr(self, state, _EMPTY[reduction])

    def state_dict(self) -> dict[str, Any]:
        """Return the state by name, as plain data and tensors; the engine keeps it while it computes."""
        return {name: getattr(self, name) for name in self.states if hasattr(self, name)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` or `merge` returned."""
        check_metric_state(self.name, state_dict, self.states, scalar=isinstance(self, MeanMetric))
        for name in self.states.keys() & state_dict.keys():
            setattr(self, name, state_dict[name])

    def merge(self, state_dicts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the states of several processes, in the order of their ranks, as one."""
        return {
            name: reduce(_JOIN[reduction], [state_dict[name] for state_dict in state_dicts])
            for name, reduction in self.states.items()
        }

    @abstractmethod
    def update(self, step_output: Mapping[str, Any]) -> None:
        """Take in the output of a step, or of one micro-batch of it, without waiting for the device."""

    @abstractmethod
    def compute(self) -> float | Mapping[str, float]:
        """Return the value over all updates since the reset; waits for the device."""


class MeanMetric(Metric):
    """Abstract metric that is a mean: ``update`` adds to ``total`` and ``count``.

    On a CPU ``total`` is a Python number, since reading a tensor there waits for nothing and costs a tenth of
    adding tensors; elsewhere it is a 0-d tensor on the device.
    """

    states: ClassVar[Mapping[str, Reduction]] = {"total": "sum", "count": "sum", "updates": "sum"}
    total: float | torch.Tensor = 0
    count: float | torch.Tensor = 0
    updates: float = 0  # by which a mean over nothing, nan, is told from no update; a subclass need not count

    def compute(self) -> float:
        """Return the mean.

        Raises:
            ArgusError: there was no update.
        """
        if not self.count:
            if self.updates:
                return math.nan
            raise ArgusError(f"metric {self.name!r} has seen no samples; update it with a step output first")
        return float(self.total) / float(self.count)  # a device would divide in float32


def _elementwise(of_tensors: Callable[..., Any], of_numbers: Callable[..., Any], *values: Any) -> Any:
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    if not tensors:
        return of_numbers(*values)
    return of_tensors(*(torch.as_tensor(value, device=tensors[0].device) for value in values))
