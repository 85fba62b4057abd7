"""The events of a run, which callbacks implement."""

from __future__ import annotations

from argus_core.callbacks.state import State
from argus_core.hooks import hookspec

__all__ = ["RunHooks"]


class RunHooks:
    """The events of a run, each raised with the run's `State`."""

    @hookspec
    def start(self, state: State) -> None:
        """The run begins: nothing has been computed."""

    @hookspec
    def complete(self, state: State) -> None:
        """The run is over, because all epochs are done or ``state.stopped`` was set."""

    @hookspec
    def epoch_start(self, state: State) -> None:
        """An epoch begins; ``state.epoch`` counts from 0."""

    @hookspec
    def epoch_complete(self, state: State) -> None:
        """An epoch is done, validation included; ``state.metrics`` holds its values."""

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
        """The weights did not move in this update: a vote or the loss scaler said no."""

    @hookspec
    def validation_start(self, state: State) -> None:
        """Validation begins within a training run; raised with the training state."""

    @hookspec
    def validation_iteration_complete(self, state: State) -> None:
        """A batch of a validation within a training run is done; raised with the training state."""

    @hookspec
    def validation_complete(self, state: State) -> None:
        """Validation is done; raised with the training state, whose metrics hold its values."""

    @hookspec
    def checkpoint_saved(self, state: State) -> None:
        """A callback wrote ``state.checkpoint_path``."""

    @hookspec
    def resumed(self, state: State) -> None:
        """The run continues from a checkpoint; counters and callbacks have their old values."""
