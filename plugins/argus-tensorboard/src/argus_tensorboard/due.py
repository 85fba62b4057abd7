"""When something is to be written: every so many epochs, updates or minutes."""

from __future__ import annotations

import time

from argus_core import State
from argus_core.authors import parse_cadence

__all__ = ["Due"]


class Due:
    """Answers at every update and at every epoch's end whether it is time.

    Args:
        argument: what messages call it.
        every: ``"2ep"``, ``"500up"`` or ``"10min"``; ``None`` for never.
    """

    def __init__(self, argument: str, every: str | None) -> None:
        self._cadence = None if every is None else parse_cadence("tensorboard", every, argument)
        self._last_step = 0
        self._last_time = 0.0

    def start(self, state: State) -> None:
        """Count from here."""
        self._last_step, self._last_time = state.global_step, time.monotonic()

    def at_update(self, state: State) -> bool:
        """Return whether it is time after this update; the same update is never due twice."""
        cadence = self._cadence
        if cadence is None or cadence.unit == "ep":
            return False
        if cadence.unit == "min":
            if time.monotonic() - self._last_time < 60 * cadence.count:
                return False
            self._last_time = time.monotonic()
            return True
        step = state.global_step
        if step % cadence.count or step == self._last_step:  # it stays where it is in a skipped update
            return False
        self._last_step = step
        return True

    def at_epoch(self, state: State) -> bool:
        """Return whether it is time after this epoch."""
        cadence = self._cadence
        return cadence is not None and cadence.unit == "ep" and (state.epoch + 1) % cadence.count == 0
