"""Stopping a run that no longer improves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from argus.callbacks.callback import Callback
from argus.errors import also
from argus.metrics.metric import init_better, known_better
from argus_core import authors

if TYPE_CHECKING:
    import argus_core

__all__ = ["EarlyStopping"]


class EarlyStopping(Callback):
    """Stops a run after ``patience`` epochs in a row in which the monitored metric did not improve.

    Args:
        monitor: the metric: ``val_loss``, ``train_accuracy``.
        patience: the number of epochs; 0 means 1.
        better: ``"min"``, ``"max"``, or ``"auto"`` to ask the metric.
    """

    def __init__(self, monitor: str = "val_loss", patience: int = 1, better: str = "auto") -> None:
        self.monitor = monitor
        self.patience = patience
        self.better, self.better_comp, self._worst = known_better(better, monitor)
        self._stopping = authors.EarlyStopping(monitor, max(patience, 1), self.better)

    @property
    def wait(self) -> int:
        """The number of epochs since the best one."""
        return self._stopping.waited

    @property
    def best_value(self) -> float | None:
        """The best value so far, initially the worst one; ``None`` as long as no metric has the name."""
        best = self._stopping.monitor.best
        return self._worst if best is None else best

    def start(self, state: argus_core.State) -> None:
        """Start over."""
        self.better, self.better_comp, self._worst = init_better(self.better, self.monitor)
        self._stopping = authors.EarlyStopping(self.monitor, max(self.patience, 1), self.better)
        with also(ValueError):
            self._stopping.start(state)

    def epoch_complete(self, state: argus_core.State) -> None:
        """Count an epoch without improvement; stop the run after ``patience`` of them."""
        with also(ValueError):
            self._stopping.epoch_complete(state)
