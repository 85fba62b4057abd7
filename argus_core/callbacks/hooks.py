"""The events of a run: the hook specifications of callbacks."""

from __future__ import annotations

from argus_core.callbacks.state import State
from argus_core.hooks import hookspec

__all__ = ["RunHooks"]


class RunHooks:
    """The events of a run, each raised with the run's `State`."""

    @hookspec
    def start(self, state: State) -> None:
        """The run begins, before any computation."""

    @hookspec
    def complete(self, state: State) -> None:
        """The run is over, because all epochs are done or ``state.stopped`` was set."""

    @hookspec
    def epoch_start(self, state: State) -> None:
        """An epoch begins; ``state.epoch`` counts from 0."""

    @hookspec
    def epoch_complete(self, state: State) -> None:
        """An epoch has ended, validation included; ``state.metrics`` holds its values."""

    @hookspec
    def iteration_start(self, state: State) -> None:
        """An update is about to be made from ``state.batch``."""

    @hookspec
    def iteration_complete(self, state: State) -> None:
        """An update has been made; ``state.step_output`` holds prediction, target and loss."""

    @hookspec
    def catch_exception(self, state: State) -> None:
        """``state.exception`` was raised and ends the run; it is raised again afterwards."""

    @hookspec
    def interrupted(self, state: State) -> None:
        """A signal asks the run to end; it does so after this event, in which checkpoints are written."""

    @hookspec
    def update_skipped(self, state: State) -> None:
        """The update was skipped: a step strategy or the loss scaler refused it."""

    @hookspec
    def validation_start(self, state: State) -> None:
        """Validation begins within a training run; raised with the training state."""

    @hookspec
    def validation_iteration_complete(self, state: State) -> None:
        """A validation batch within a training run has ended; ``state.validating`` is of its set."""

    @hookspec
    def validation_complete(self, state: State) -> None:
        """Validation has ended; raised with the training state, whose metrics hold its values."""

    @hookspec
    def measured_midway(self, state: State) -> None:
        """``state.midway`` holds values from within an epoch, or from the end of the run."""

    @hookspec
    def checkpoint_saved(self, state: State) -> None:
        """A callback wrote ``state.checkpoint_path``."""

    @hookspec
    def resumed(self, state: State) -> None:
        """The run resumes from a checkpoint; counters and callbacks are restored."""
