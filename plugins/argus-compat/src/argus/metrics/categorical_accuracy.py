"""The share of correctly predicted targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import argus_core
from argus.errors import also
from argus.metrics.metric import Metric
from argus_core.authors import Accuracy

__all__ = ["CategoricalAccuracy"]


class CategoricalAccuracy(Accuracy, Metric, registered=False):
    """argus_core's ``accuracy``: the share of targets that have the highest prediction."""

    name = "accuracy"
    better = "max"

    def __init__(self) -> None:
        super().__init__(ignore_index=None)  # every target counts, as in pytorch-argus
        self.reset()

    @property
    def correct(self) -> float:
        """The number of correctly predicted targets, of `count`."""
        return self.total  # type: ignore[return-value]

    @correct.setter
    def correct(self, correct: float) -> None:
        self.total = correct

    def update(self, step_output: Mapping[str, Any]) -> None:
        """Count the right predictions of a step."""
        with also(KeyError):
            super().update(step_output)

    def reset(self) -> None:
        """Forget all updates."""
        argus_core.Metric.reset(self)

    def compute(self) -> Any:
        """Return the share."""
        with also(RuntimeError):
            return super().compute()
