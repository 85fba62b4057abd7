"""Intervals of epochs, updates, minutes or hours."""

from __future__ import annotations

import time

from argus_core import State
from argus_core.authors import parse_cadence

__all__ = ["Due"]


class Due:
    """An interval that is checked after each update and each epoch.

    Args:
        argument: its name in messages.
        every: ``"2ep"``, ``"500up"``, ``"10min"`` or ``"3h"``; ``None`` for never.
    """

    def __init__(self, argument: str, every: str | None) -> None:
        self._cadence = None if every is None else parse_cadence("tensorboard", every, argument)
        self._last_step = 0
        self._last_time = 0.0

    def start(self, state: State) -> None:
        """Start counting."""
        self._last_step, self._last_time = state.global_step, time.monotonic()

    def at_update(self, state: State) -> bool:
        """Return True if this update is due; the same update is never due twice."""
        cadence = self._cadence
        if cadence is None or cadence.unit == "ep":
            return False
        if cadence.unit == "min":
            if time.monotonic() - self._last_time < 60 * cadence.count:
                return False
            self._last_time = time.monotonic()
            return True
        step = state.global_step
        if step % cadence.count or step == self._last_step:  # a skipped update does not change it
            return False
        self._last_step = step
        return True

    def at_epoch(self, state: State) -> bool:
        """Return True if this epoch is due."""
        cadence = self._cadence
        return cadence is not None and cadence.unit == "ep" and (state.epoch + 1) % cadence.count == 0
