"""Reporting a trial's metric to its study, and stopping an unpromising trial."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from argus_core import Callback
from argus_core.authors import check_monitor, monitored_value

if TYPE_CHECKING:
    import optuna

    from argus_core import State

__all__ = ["Pruning"]


class Pruning(Callback):
    """Reports a metric after each epoch to a trial of optuna, and stops the run if the trial is to be pruned.

    `argus_optuna.sweep` adds it to each trial. In a loop of your own, pass it as a callback::

        pruning = Pruning(trial, "val_accuracy")
        model.fit(loader, val_loader=val_loader, metrics=["accuracy"], callbacks=[pruning])
        if pruning.pruned:
            raise optuna.TrialPruned

    A value that is not finite is not reported, and stops the run.

    Args:
        trial: the trial of optuna.
        monitor: the name of one of the run's metrics.

    Attributes:
        pruned: whether the pruner stopped the run.
        not_finite: the value that stopped the run since it was not finite: ``"val_loss is nan in epoch 3"``.
    """

    reads_predictions = False
    computes = ()

    def __init__(self, trial: optuna.Trial, monitor: str) -> None:
        self.trial = trial
        self.monitor = monitor
        self.pruned = False
        self.not_finite: str | None = None
        self._reported = set(trial.storage.get_trial(trial._trial_id).intermediate_values)

    def start(self, state: State) -> None:
        """Check that the run computes the metric."""
        check_monitor(type(self).__name__, self.monitor, state)

    def resumed(self, state: State) -> None:
        """Stop a resumed run at once if it was stopped before."""
        if self._reported and self.trial.should_prune():
            self._stop(state)

    def epoch_complete(self, state: State) -> None:
        """Report the value of the epoch, if it was measured again."""
        if state.is_measured(self.monitor):
            self._report(state)

    def measured_midway(self, state: State) -> None:
        """Report the value of the first validation within an epoch."""
        if state.midway is not None and self.monitor in state.midway.metrics and state.midway.phase == "val":
            self._report(state)

    def _report(self, state: State) -> None:
        value = monitored_value(type(self).__name__, self.monitor, state)
        if not math.isfinite(value):
            self.not_finite = f"{self.monitor} is {value} in epoch {state.epoch + 1}"
            state.stopped = True
            return
        if state.epoch not in self._reported:
            self.trial.report(value, state.epoch)
            self._reported.add(state.epoch)
        if self.trial.should_prune():
            self._stop(state)

    def _stop(self, state: State) -> None:
        self.pruned = True
        state.stopped = True
        state.logger.info("pruned after epoch %d", state.epoch + 1)
