"""Limits of an epoch, as users write them: a number of steps, or a share of those of the loader."""

from __future__ import annotations

__all__ = ["LIMITS", "is_limit"]

LIMITS = "a whole number from 1 to 2**31 - 1, or a share of an epoch above 0 and up to 1.0"
"""The accepted limits, for messages."""


def is_limit(value: object) -> bool:
    """Return whether ``value`` limits an epoch to a number of steps or to a share."""
    return 1 <= value < 2**31 if type(value) is int else type(value) is float and 0 < value <= 1
