"""State that comes from a file: each value is checked before anything uses it."""

from __future__ import annotations

import math
import reprlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from argus_core.errors import UnsafeCheckpointError

__all__ = [
    "BEST",
    "COUNT",
    "FLAG",
    "MONITOR",
    "Rule",
    "check_callback_state",
    "check_fits",
    "check_state",
    "is_number",
]

_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class Rule:
    """The values that one key of a stored state may have.

    Attributes:
        holds: returns whether a value, of whatever type, is one of them.
        expected: the end of "it must be", for messages.
        optional: whether the key may be missing.
    """

    holds: Callable[[Any], bool]
    expected: str
    optional: bool = False


def is_number(value: Any) -> bool:
    """Return whether a value is a float, perhaps nan or infinite, or an integer of 64 bits."""
    return type(value) is float or (type(value) is int and value in _INT64)


def _is_best(value: Any) -> bool:
    return value is None or (is_number(value) and math.isfinite(value))


COUNT = Rule(lambda value: type(value) is int and 0 <= value <= sys.maxsize, "an integer from 0 up")
FLAG = Rule(lambda value: type(value) is bool, "True or False")
BEST = Rule(_is_best, "a finite number or None")
MONITOR = Rule(lambda value: isinstance(value, str), "the name of a metric", optional=True)


def check_state(what: str, state: Mapping[str, Any], rules: Mapping[str, Rule], closed: bool = True) -> None:
    """Check a stored state against the rules for its keys.

    Args:
        what: whose state it is, for messages.
        state: as a file has it, which may be of anyone's making.
        rules: by key.
        closed: whether other keys are refused.

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
    """Check the stored state of a part whose caller says, by `fitting`, whose it is and what to do.

    Raises:
        ValueError: it is not the part's.
    """
    problem = _problem(state, rules, closed=True)
    if problem is not None:
        raise ValueError(problem)


def check_callback_state(callback: Any, state: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Check the state of a callback against the rules for its keys.

    A class declares ``state_rules`` beside the ``state_dict`` that they are for. A subclass that overrides
    ``state_dict`` without rules of its own may have added keys, so others than those of the rules are taken.

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
