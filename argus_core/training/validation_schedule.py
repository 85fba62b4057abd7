"""Validation at another cadence than each epoch: after epochs, updates or minutes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from argus_core.callbacks.cadence import Cadence, Due
from argus_core.callbacks.callback import Callback
from argus_core.callbacks.epoch_report import midway_record
from argus_core.callbacks.state import State
from argus_core.hooks import hookimpl
from argus_core.storage.stored import COUNT, check_callback_state
from argus_core.tensors.rng import random_state, set_random_state
from argus_core.training.validation import Validation

__all__ = ["EACH_EPOCH", "MidwaySchedule", "ValidationSchedule", "is_midway", "scheduled"]

EACH_EPOCH = Cadence(1, "ep")


def is_midway(cadence: Cadence) -> bool:
    """Return whether validations may come in the middle of an epoch."""
    return cadence.unit != "ep"


def scheduled(
    validations: Sequence[Validation], cadence: Cadence
) -> tuple[Sequence[Callback], Sequence[Callback]]:
    """Return the callbacks that validate at a cadence: those to list first, and those to list last."""
    if not validations or cadence == EACH_EPOCH:
        return validations, ()
    if not is_midway(cadence):
        return [ValidationSchedule(validations, cadence)], ()
    schedule = MidwaySchedule(validations, cadence)
    return [schedule], [_AfterUpdates(schedule)]


class ValidationSchedule(Callback):
    """Validates after some epochs, and at the end of the run.

    The random numbers of training do not depend on it. Checkpoints hold the run as it was before a validation
    that only the end of the run asks for, so that a longer run continues from there without it.
    """

    name = "validation_schedule"
    state_rules: ClassVar = {"validated_at": COUNT}
    reads_predictions = False
    computes = ()

    def __init__(self, validations: Sequence[Validation], cadence: Cadence) -> None:
        self.validations = validations
        self.due = Due(cadence)
        self.validated_at = -1

    def state_dict(self) -> dict[str, Any]:
        """Return the update of the newest validation."""
        return {} if self.validated_at < 0 else {"validated_at": self.validated_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        check_callback_state(self, state_dict, self.state_rules)
        self.validated_at = state_dict["validated_at"]

    @hookimpl(tryfirst=True)
    def start(self, state: State) -> None:
        state.validated_at = self.validated_at
        self.due.start(state.global_step)

    @hookimpl(tryfirst=True)
    def epoch_complete(self, state: State) -> None:
        if state.engine.position.trained and self.is_due(state):
            self.validate(state)

    @hookimpl(tryfirst=True)
    def complete(self, state: State) -> None:
        """Validate at the end of the run."""
        if self.validated_at != state.global_step:
            state.engine.hold_position()
            self.validate_midway(state)

    def is_due(self, state: State) -> bool:
        """Return whether the end of an epoch validates."""
        return self.due.after_epoch(state.epoch)

    def validate(self, state: State) -> None:
        """Validate; random numbers stay as they were."""
        kept = random_state()
        for validation in self.validations:
            validation.epoch_complete(state)
        set_random_state(kept)
        self.validated_at = state.validated_at = state.global_step

    def validate_midway(self, state: State) -> None:
        """Validate apart from the end of an epoch, and let callbacks follow the values."""
        self.validate(state)
        values = {name: value for name, value in state.metrics.items() if name.startswith("val_")}
        state.midway = midway_record("val", state, values)
        state.engine.raise_event("measured_midway")


class MidwaySchedule(ValidationSchedule):
    """Validates after some updates or minutes; one that falls on an epoch's end belongs to that end."""

    computes = ()
    _is_owed = False  # by minutes that ended with the epoch

    def repeat(self, state: State) -> None:
        """Make the validation that a signal, an exception or the end of the run has left out."""
        is_within = state.engine.position.updates_done > 0 and not _ends_epoch(state)
        if is_within and not state.stopped and self.is_due(state):
            set_random_state(state.engine.snapshot()["rng"])  # which the run sets before its first batch
            self._validate(state)

    def follow_update(self, state: State) -> None:
        """Validate if it is due after an update."""
        if not self.due.after_update(state.global_step):
            return
        self._is_owed = _ends_epoch(state)
        if not state.stopped and not self._is_owed:
            self._validate(state)

    def is_due(self, state: State) -> bool:
        cadence, step = self.due.cadence, state.global_step
        if cadence.unit == "min":
            is_owed, self._is_owed = self._is_owed, False
            return is_owed
        return step > 0 and step % cadence.count == 0 and step != self.validated_at

    def _validate(self, state: State) -> None:
        """Validate; if that raises an exception, the engine's position is the one before."""
        with state.engine.kept_position():
            self.validate_midway(state)


class _AfterUpdates(Callback):
    """Calls a schedule after an update, and after all callbacks that write no checkpoints."""

    reads_predictions = False
    computes = ()

    def __init__(self, schedule: MidwaySchedule) -> None:
        self.schedule = schedule

    @hookimpl(trylast=True)
    def resumed(self, state: State) -> None:
        self.schedule.repeat(state)

    @hookimpl(trylast=True)
    def iteration_complete(self, state: State) -> None:
        self.schedule.follow_update(state)


def _ends_epoch(state: State) -> bool:
    """Return whether an update is the last of an epoch; beyond a wrong length, none is known to be."""
    engine, length = state.engine, state.engine.num_batches
    done = engine.position.updates_done * engine.window_size
    return length is not None and length <= done < length + engine.window_size
