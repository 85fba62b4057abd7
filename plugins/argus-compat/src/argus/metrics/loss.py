"""The mean of the steps' losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from argus.errors import NoStepsError
from argus.metrics.metric import Metric
from argus.utils import AverageMeter

__all__ = ["Loss"]


class Loss(Metric, registered=False):
    """The mean of the steps' losses, in which each step has the same weight.

    The metric ``loss`` of argus_core weights each step by its samples, which differs if the last batch is
    smaller.
    """

    name = "loss"

    def __init__(self) -> None:
        super().__init__()
        self.avg_meter = AverageMeter()

    def reset(self) -> None:
        """Forget all updates."""
        self.avg_meter.reset()

    def update(self, step_output: Mapping[str, Any]) -> None:
        """Add a step's loss."""
        self.avg_meter.update(step_output["loss"])

    def compute(self) -> float:
        """Return the mean.

        Raises:
            NoStepsError: the metric has no updates.
        """
        if self.avg_meter.count == 0:
            raise NoStepsError("metric 'loss' has no steps; update it with a step output first")
        return self.avg_meter.average
