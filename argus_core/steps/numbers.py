"""Checks of numeric parameters of step strategies, which may come from a configuration file."""

from __future__ import annotations

import math
import sys
from numbers import Real

__all__ = ["is_count", "is_number"]


def is_count(value: object) -> bool:
    """Return whether a value is an integer from 1 to what fits into 64 bits, and not a boolean."""
    return type(value) is int and 1 <= value <= sys.maxsize


def is_number(value: object) -> bool:
    """Return whether a value is a real number, possibly infinite, and neither nan nor a boolean."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return not math.isnan(float(value))
    except OverflowError:  # an integer beyond any float
        return False
