"""The mean of the steps' losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from argus.errors import NoStepsError
from argus.metrics.metric import Metric
from argus.utils import AverageMeter

__all__ = ["Loss"]


class Loss(Metric, registered=False):
    """The mean of the steps' losses, each counting the same however many samples it has.

    argus_core's own ``loss`` weights each by its samples, which differs where the last batch is smaller.
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
            NoStepsError: there was no update.
        """
        if self.avg_meter.count == 0:
            raise NoStepsError("metric 'loss' has seen no steps; update it with a step output first")
        return self.avg_meter.average
