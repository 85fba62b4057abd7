"""Durations ("2ep", "500up", "10min"), and cadences, which are due once in each.

Parts of a run, such as "5%", are in ``run_length.py``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, cast

from argus_core.errors import ParamsError
from argus_core.tensors.clock import shared_time

__all__ = ["DURATIONS", "Cadence", "Due", "is_cadence", "is_time", "parse_cadence"]

DURATIONS = "epochs, updates, minutes or hours, such as '2ep', '500up', '10min' or '3h'"
"""The durations that an argument takes, for messages."""

Unit = Literal["ep", "up", "min"]

_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*(ep|up|min|h)")


@dataclass(frozen=True)
class Cadence:
    """A count of epochs (``"ep"``), updates (``"up"``) or minutes (``"min"``), 60 of them for an hour."""

    count: float
    unit: Unit


class Due:
    """Tells when a cadence is due: after an update, or at the end of an epoch if it counts those.

    Args:
        cadence: see above.

    Attributes:
        last_step: the number of updates after which it was due last; a skipped update does not change it.
    """

    def __init__(self, cadence: Cadence) -> None:
        self.cadence = cadence
        self.last_step = 0
        self._last_time = shared_time()

    def start(self, step: int) -> None:
        """Start counting after ``step`` updates; minutes are counted from this call."""
        self.last_step, self._last_time = step, shared_time()

    def after_update(self, step: int) -> bool:
        """Return True if it is due after ``step`` updates; one number of updates is never due twice."""
        if self.cadence.unit == "min":
            if shared_time() - self._last_time < 60 * self.cadence.count:
                return False
        elif self.cadence.unit == "ep" or step % self.cadence.count or step == self.last_step:
            return False
        self.start(step)
        return True

    def after_epoch(self, epoch: int) -> bool:
        """Return True if it is due at the end of an epoch, counting from 0."""
        return self.cadence.unit == "ep" and (epoch + 1) % self.cadence.count == 0


def is_cadence(value: object) -> bool:
    """Return whether ``value`` is a valid cadence."""
    return _parsed(value) is not None


def is_time(value: object) -> bool:
    """Return whether ``value`` is a number of minutes or hours."""
    cadence = _parsed(value)
    return cadence is not None and cadence.unit == "min"


def parse_cadence(callback: str, value: object, argument: str = "every") -> Cadence:
    """Parse a cadence such as ``"2ep"``, ``"500up"``, ``"10min"`` or ``"3h"``.

    Args:
        callback: its name, for messages.
        value: as the callback got it.
        argument: the name of its parameter.

    Raises:
        ParamsError: it is not a cadence.
    """
    cadence = _parsed(value)
    if cadence is None:
        raise ParamsError(f"{callback} has {argument}={value!r}; give {DURATIONS}")
    return cadence


def _parsed(value: object) -> Cadence | None:
    match = _FORM.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    count, unit = float(match[1]), match[2]
    cadence = Cadence(60 * count, "min") if unit == "h" else Cadence(count, cast(Unit, unit))
    whole = cadence.unit == "min" or cadence.count.is_integer()
    return cadence if 0 < cadence.count < math.inf and whole else None
