"""Which numbers parameters of strategies may be, whatever a configuration has written for them."""

from __future__ import annotations

import math
import sys
from numbers import Real

__all__ = ["is_count", "is_number"]


def is_count(value: object) -> bool:
    """Return whether a value is a whole number from 1 on that a computer can count to; ``True`` is none."""
    return type(value) is int and 1 <= value <= sys.maxsize


def is_number(value: object) -> bool:
    """Return whether a value is a real number, perhaps infinite; nan and booleans are none."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return not math.isnan(float(value))
    except OverflowError:  # an integer beyond any float
        return False
