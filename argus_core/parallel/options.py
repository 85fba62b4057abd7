"""Checks of the options that several engines take."""

from __future__ import annotations

from typing import Any, TypeGuard

from argus_core.errors import ParamsError

__all__ = ["check_flags", "check_number", "is_number"]

_MOST = 1e6


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is a number above 0 that an option can have."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _MOST


def check_number(engine: str, name: str, value: Any) -> None:
    """Raise `ParamsError` unless an option is a number above 0."""
    if not is_number(value):
        raise ParamsError(f"parallel {engine!r}: {name} is {value!r}; give a number above 0")


def check_flags(engine: str, **flags: Any) -> None:
    """Raise `ParamsError` unless options are True or False."""
    for name, value in flags.items():
        if type(value) is not bool:
            raise ParamsError(f"parallel {engine!r}: {name} is {value!r}; give True or False")
