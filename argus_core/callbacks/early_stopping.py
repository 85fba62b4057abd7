"""Early stopping of a run that no longer improves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from argus_core.callbacks.callback import Callback
from argus_core.callbacks.monitor import Monitor
from argus_core.callbacks.state import State
from argus_core.errors import ParamsError
from argus_core.hooks import hookimpl
from argus_core.storage.stored import COUNT, Rule, check_callback_state

__all__ = ["EarlyStopping"]


class EarlyStopping(Callback):
    """Stops a run after ``patience`` epochs in a row in which the monitored metric did not improve.

    Args:
        monitor: a name among the run's metrics.
        patience: how many epochs.
        better: ``"min"``, ``"max"``, or ``"auto"`` to ask the metric.
    """

    name = "early_stopping"
    state_rules: ClassVar[Mapping[str, Rule]] = {**Monitor.state_rules, "waited": COUNT}
    reads_predictions = False
    computes = ()
    exact_types = True

    def __init__(self, monitor: str = "val_loss", patience: int = 1, better: str = "auto") -> None:
        if type(patience) is not int or patience < 1:
            raise ParamsError(
                f"patience of {self.name} is {patience!r}; give an integer of at least 1 (epochs)"
            )
        self.monitor = Monitor(self.name, monitor, better)
        self.patience = patience
        self.waited = 0
        self._resumed = False

    def start(self, state: State) -> None:
        """Start over, except after `load_state_dict`."""
        self.monitor.start(state)
        if not self._resumed:
            self.monitor.forget()
            self.waited = 0
        elif self.waited >= self.patience:
            self._stop(state, "; to continue, resume with a larger patience or without early_stopping")
        self._resumed = False

    @hookimpl(trylast=True)
    def epoch_complete(self, state: State) -> None:
        """Count an epoch without improvement; stop the run after ``patience`` of them."""
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
            return
        self.waited += 1
        if self.waited >= self.patience:
            self._stop(state)

    def _stop(self, state: State, action: str = "") -> None:
        best = "it was never finite" if self.monitor.best is None else f"best {self.monitor.best:g}"
        epochs = "1 epoch" if self.waited == 1 else f"{self.waited} epochs"
        state.stopped = True
        state.stop_reason = (
            f"{self.name} ended the run after epoch {state.epoch + 1}: "
            f"{self.monitor.metric} has not improved for {epochs} ({best}){action}"
        )
        state.logger.info("%s", state.stop_reason)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and the number of epochs since."""
        return {**self.monitor.state_dict(), "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, for the next run.

        Raises:
            UnsafeCheckpointError: argus_core does not write such a state.
        """
        check_callback_state(self, state_dict, self.state_rules)
        self.monitor.load_state_dict(state_dict)
        if state_dict["monitor"] == self.monitor.metric:
            self.waited, self._resumed = state_dict["waited"], True
