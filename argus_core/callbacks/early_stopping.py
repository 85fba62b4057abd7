"""Early stopping of a run that no longer improves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from argus_core.callbacks.cadence import DURATIONS, is_cadence, parse_cadence
from argus_core.callbacks.callback import Callback
from argus_core.callbacks.monitor import Monitor
from argus_core.callbacks.state import State
from argus_core.errors import ParamsError
from argus_core.hooks import hookimpl
from argus_core.storage.stored import COUNT, DURATION, Rule, check_callback_state

__all__ = ["EarlyStopping"]


class EarlyStopping(Callback):
    """Stops a run in which the monitored metric has not improved for some epochs, or another duration.

    Args:
        monitor: a name among the run's metrics.
        patience: how many epochs in a row, or validations where these come at another cadence; or a duration:
            ``"5ep"``, ``"2000up"``, ``"3h"``.
        better: ``"min"``, ``"max"``, or ``"auto"`` to ask the metric.
    """

    name = "early_stopping"
    state_rules: ClassVar[Mapping[str, Rule]] = {
        **Monitor.state_rules,
        "waited": COUNT,
        "best_step": replace(COUNT, optional=True),  # a run of an earlier version has neither
        "best_seconds": DURATION,
    }
    reads_predictions = False
    computes = ()
    exact_types = True

    def __init__(self, monitor: str = "val_loss", patience: int | str = 1, better: str = "auto") -> None:
        if not is_cadence(patience) and (type(patience) is not int or patience < 1):
            raise ParamsError(
                f"patience of {self.name} is {patience!r}; give an integer of at least 1 (epochs), or a "
                f"duration in {DURATIONS}"
            )
        self.monitor = Monitor(self.name, monitor, better)
        self.patience = patience
        self.waited = 0
        self._best_step, self._best_seconds = 0, 0.0
        self._resumed = False

    def start(self, state: State) -> None:
        """Start over, except after `load_state_dict`."""
        self.monitor.start(state)
        if not self._resumed:
            self.monitor.forget()
            self.waited, self._best_step, self._best_seconds = 0, 0, 0.0
        elif self.waited and self._is_over(state):
            self._stop(state, "; to continue, resume with a larger patience or without early_stopping")
        self._resumed = False

    @hookimpl(trylast=True)
    def epoch_complete(self, state: State) -> None:
        """Count an epoch without improvement; stop the run once ``patience`` has passed."""
        if self.monitor.new.at_epoch(state):
            self._judge(state)

    @hookimpl(trylast=True)
    def measured_midway(self, state: State) -> None:
        """Count a validation without improvement."""
        if self.monitor.new.midway(state):
            self._judge(state)

    def _judge(self, state: State) -> None:
        if self.monitor.improved(state):
            self.waited = 0
            self._best_step, self._best_seconds = state.global_step, state.engine.seconds
            return
        self.waited += 1
        if self._is_over(state):
            self._stop(state)

    def _is_over(self, state: State) -> bool:
        if isinstance(self.patience, int):
            return self.waited >= self.patience
        cadence = parse_cadence(self.name, self.patience, "patience")
        if cadence.unit == "min":
            return state.engine.seconds - self._best_seconds >= 60 * cadence.count
        if cadence.unit == "up":
            return state.global_step - self._best_step >= cadence.count
        best_epoch = -1 if self.monitor.epoch is None else self.monitor.epoch
        return state.epoch - best_epoch >= cadence.count

    def _stop(self, state: State, action: str = "") -> None:
        best = "it was never finite" if self.monitor.best is None else f"best {self.monitor.best:g}"
        unit = "epoch" if state.validated_at is None else "validation"
        waited = f"{self.waited} {unit}{'s' * (self.waited > 1)}"
        if isinstance(self.patience, str):
            waited = self.patience
        state.stopped = True
        state.stop_reason = (
            f"{self.name} ended the run after epoch {state.epoch + 1}: "
            f"{self.monitor.metric} has not improved for {waited} ({best}){action}"
        )
        state.logger.info("%s", state.stop_reason)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value, where it was, and the number of values since."""
        best = {"best_step": self._best_step, "best_seconds": self._best_seconds}
        return {**self.monitor.state_dict(), "waited": self.waited, **best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, for the next run.

        Raises:
            UnsafeCheckpointError: argus_core does not write such a state.
        """
        check_callback_state(self, state_dict, self.state_rules)
        self.monitor.load_state_dict(state_dict)
        if state_dict["monitor"] == self.monitor.metric:
            self.waited, self._resumed = state_dict["waited"], True
            self._best_step = state_dict.get("best_step", 0)
            self._best_seconds = state_dict.get("best_seconds", 0.0)
