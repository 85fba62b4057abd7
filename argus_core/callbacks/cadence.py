"""Cadences: a number of epochs, updates or minutes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, cast

from argus_core.errors import ParamsError

__all__ = ["Cadence", "is_cadence", "parse_cadence"]

Unit = Literal["ep", "up", "min"]

_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*(ep|up|min)")


@dataclass(frozen=True)
class Cadence:
    """A count of epochs (``"ep"``), updates (``"up"``) or minutes (``"min"``)."""

    count: float
    unit: Unit


def is_cadence(value: object) -> bool:
    """Return whether ``value`` is a valid cadence."""
    return _parsed(value) is not None


def parse_cadence(callback: str, value: object, argument: str = "every") -> Cadence:
    """Parse a cadence such as ``"2ep"``, ``"500up"`` or ``"10min"``.

    Args:
        callback: its name, for messages.
        value: as the callback got it.
        argument: the name of its parameter.

    Raises:
        ParamsError: it is not a cadence.
    """
    cadence = _parsed(value)
    if cadence is None:
        raise ParamsError(
            f"{callback} has {argument}={value!r}; give epochs, updates or minutes, such as '2ep', '500up' "
            "or '10min'"
        )
    return cadence


def _parsed(value: object) -> Cadence | None:
    match = _FORM.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    cadence = Cadence(float(match[1]), cast(Unit, match[2]))
    whole = cadence.unit == "min" or cadence.count.is_integer()
    return cadence if 0 < cadence.count < math.inf and whole else None
