"""Checks of state from a file: rules for the values of its keys, applied before the state is used."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from argus_core.errors import UnsafeCheckpointError

__all__ = [
    "BEST",
    "BEST_EPOCH",
    "COUNT",
    "DURATION",
    "FLAG",
    "MONITOR",
    "Rule",
    "check_callback_state",
    "check_fits",
    "check_state",
    "is_number",
]

_INT64 = range(-(2**63), 2**63)
_MOST = 2**53  # of a count: however far a run continues from there, what it counts fits into 64 bits


@dataclass(frozen=True)
class Rule:
    """The rule for the values of one key of a stored state.

    Attributes:
        holds: returns whether a value, of any type, is allowed.
        expected: the continuation of "it must be" in messages.
        optional: whether the key may be missing.
    """

    holds: Callable[[Any], bool]
    expected: str
    optional: bool = False


def is_number(value: Any) -> bool:
    """Return whether a value is a float, nan and inf included, or an integer of 64 bits."""
    return type(value) is float or (type(value) is int and value in _INT64)


def _is_best(value: Any) -> bool:
    return value is None or (is_number(value) and math.isfinite(value))


COUNT = Rule(lambda value: type(value) is int and 0 <= value <= _MOST, "an integer from 0 up")
DURATION = Rule(
    lambda value: is_number(value) and 0 <= value < math.inf, "a number of seconds from 0 up", optional=True
)
FLAG = Rule(lambda value: type(value) is bool, "True or False")
BEST = Rule(_is_best, "a finite number or None")
BEST_EPOCH = Rule(
    lambda value: value is None or COUNT.holds(value), "an integer from 0 up, or None", optional=True
)
MONITOR = Rule(lambda value: isinstance(value, str), "the name of a metric", optional=True)


def check_state(what: str, state: Mapping[str, Any], rules: Mapping[str, Rule], closed: bool = True) -> None:
    """Check a stored state against the rules for its keys.

    Args:
        what: the owner of the state, for messages.
        state: from a file, untrusted.
        rules: by key.
        closed: whether other keys are an error.

    Raises:
        UnsafeCheckpointError: argus_core does not write such a state.
    """
    problem = _problem(state, rules, closed)
    if problem is not None:
        raise UnsafeCheckpointError(
            f"the stored state of {what} is not as argus_core writes it: {problem}; do not trust this file, "
            "or resume without it"
        )


def check_fits(state: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Check a stored state inside `fitting`, which adds the owner and the next action to the message.

    Raises:
        ValueError: a value or a key breaks the rules.
    """
    problem = _problem(state, rules, closed=True)
    if problem is not None:
        raise ValueError(problem)


def check_callback_state(callback: Any, state: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Check the state of a callback against the rules for its keys.

    A class declares ``state_rules`` beside its ``state_dict``. A subclass that overrides only ``state_dict``
    may have added keys, so other keys are accepted then.

    Raises:
        UnsafeCheckpointError: argus_core does not write such a state.
    """
    writer = next(each for each in type(callback).__mro__ if "state_dict" in vars(each))
    closed = "state_rules" in vars(writer)
    check_state(f"callback {callback.name!r}", state, rules, closed)


def _problem(state: Mapping[str, Any], rules: Mapping[str, Rule], closed: bool) -> str | None:
    unknown = [key for key in state if key not in rules]
    if unknown and closed:
        return f"{reprlib.repr(unknown[0])} is unknown; it has {', '.join(rules)}"
    for key, rule in rules.items():
        if key not in state:
            if not rule.optional:
                return f"{key!r} is missing"
        elif not rule.holds(state[key]):
            return f"{key!r} is {reprlib.repr(state[key])}; it must be {rule.expected}"
    return None
