"""The results of a classifier for each class: targets, precision, recall and F1 score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from argus_core.metrics.metric import Metric, Reduction

__all__ = ["ClassResult", "ClassTable", "Classes", "read_classes"]


@dataclass(frozen=True)
class ClassResult:
    """The results for one class; a share of nothing is nan.

    Attributes:
        targets: the number of targets of this class: samples, or pixels and so on.
        precision: the share of correct predictions among the predictions of this class.
        recall: the share of correct predictions among the targets of this class.
        f1: the harmonic mean of both.
    """

    targets: int
    precision: float
    recall: float
    f1: float


class ClassTable(Metric):
    """Counts targets, predictions and correct predictions of each class, in memory that only classes need.

    Predictions are (batch, classes, ...) and targets integers (batch, ...); or, with a ``threshold``,
    predictions (batch,) or (batch, 1, ...) are probabilities of class 1. Of other data there is no table.

    Args:
        threshold: a binary prediction above it is class 1; ``None`` if there are no binary predictions.
        ignore_index: the target that is not counted.

    Attributes:
        rows: the result of each class after `compute`; ``None`` where the data are of another kind.
    """

    name = "class table"  # which no metric in a configuration has
    better = None
    several = True
    states: ClassVar[Mapping[str, Reduction]] = dict.fromkeys(("targets", "predicted", "right"), "sum")
    targets: Any
    predicted: Any
    right: Any

    def __init__(self, threshold: float | None = None, ignore_index: int | None = -100) -> None:
        super().__init__()
        self.threshold = threshold
        self.ignore_index = ignore_index
        self.rows: list[ClassResult] | None = None
        self._fits = True

    def update(self, step_output: Mapping[str, Any]) -> None:
        """Count a step's targets and predictions."""
        read = read_classes(step_output, self.threshold, self.ignore_index)
        self._fits = self._fits and read is not None
        if not self._fits or read is None:
            return
        counts = torch.zeros(3, read.number, dtype=torch.int64, device=read.target.device)
        counts[0].index_add_(0, read.target, read.counted)
        counts[1].index_add_(0, read.predicted, read.counted)
        counts[2].index_add_(0, read.target, read.counted * (read.predicted == read.target))
        self.targets, self.predicted, self.right = (
            before + more
            for before, more in zip((self.targets, self.predicted, self.right), counts, strict=True)
        )

    def compute(self) -> dict[str, float]:
        """Set ``rows``; there is no value among the metrics."""
        self.rows = None
        if self._fits and isinstance(self.targets, Tensor):
            columns = (counts.tolist() for counts in (self.targets, self.predicted, self.right))
            self.rows = [_result(*counts) for counts in zip(*columns, strict=True)]
        return {}


class Classes(NamedTuple):
    """The classes in the output of a step, each tensor flat.

    Attributes:
        predicted: the predicted classes.
        target: the true ones; any class where they do not count.
        counted: 1 where a target counts, else 0.
        number: of classes.
    """

    predicted: Tensor
    target: Tensor
    counted: Tensor
    number: int


def read_classes(step_output: Any, threshold: float | None, ignore_index: int | None) -> Classes | None:
    """Return the classes in the output of a step, without waiting for the device.

    Returns ``None`` if it is not that of a classification: predictions (batch, classes, ...) with integer
    targets (batch, ...), or (batch,) or (batch, 1, ...) with as many targets 0 or 1.

    Args:
        step_output: with prediction and target, if it is a mapping.
        threshold: a binary prediction above it is class 1; ``None`` if there are no binary predictions.
        ignore_index: the target that does not count; negative ones and those without a class never do.
    """
    if not isinstance(step_output, Mapping):  # a class's own val_step may return anything
        return None
    prediction, target = step_output.get("prediction"), step_output.get("target")
    if not isinstance(prediction, Tensor) or not isinstance(target, Tensor) or not prediction.ndim:
        return None
    if prediction.ndim > 1 and prediction.shape[1] > 1:
        is_sound = target.shape == prediction.shape[:1] + prediction.shape[2:]
        if not is_sound or target.is_floating_point() or target.dtype is torch.bool:
            return None
        predicted, number = prediction.argmax(1), prediction.shape[1]
    elif threshold is None or prediction.numel() != target.numel():
        return None
    else:
        predicted, number = (prediction > threshold).long(), 2
    target = target.flatten().long()
    counted = (target >= 0) & (target < number)
    if ignore_index is not None:
        counted &= target != ignore_index
    return Classes(predicted.flatten(), target.clamp(0, number - 1), counted.long(), number)


def _result(targets: int, predicted: int, right: int) -> ClassResult:
    return ClassResult(
        targets, _share(right, predicted), _share(right, targets), _share(2 * right, targets + predicted)
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
