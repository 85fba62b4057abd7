"""Checks of the values in a configuration, and parsing of values from the command line."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date, time
from typing import Any

from argus_core.errors import ConfigError
from argus_core.files.toml import parse

__all__ = ["check_values", "parse_value"]

_MOST_LEVELS = 64
_INTEGERS = range(-(2**63), 2**64)

_PYTHON_WORDS = {"True": True, "False": False}
_BOOLEANS = {"true": "true", "false": "false", "yes": "true", "no": "false", "on": "true", "off": "false"}
_NOTHING = ("none", "null", "nil")
_NAME = "none"  # a reduction of torch's losses; parameters of another type reject it themselves
_NUMBERS = {"infinity": "inf", "inf": "inf", "nan": "nan"}
_LIKE_A_NUMBER = re.compile(r"[+-]*[.,]?\d[\d.,_]*([eE][+-]?[\d._]*)?")
_LIKE_A_TUPLE = re.compile(r"\(.*,.*\)")
_LIKE_A_BASE = re.compile(r"[+-]?0[xXoObB]\w+")


def check_values(value: Any, source: str, where: str = "", levels: int = _MOST_LEVELS) -> None:
    """Raise for values of TOML that no parameter takes: dates, integers beyond 64 bits, NUL characters.

    Args:
        value: a parsed document, or one of its values.
        source: the beginning of messages.
        where: the key of the value.
        levels: the maximum depth of nesting.

    Raises:
        ConfigError: there is such a value; the message names its key.
    """
    if isinstance(value, dict | list) and not levels:
        raise ConfigError(
            f"{source}: {where[:80]}... is nested deeper than {_MOST_LEVELS} levels; make it flatter"
        )
    if isinstance(value, dict):
        for key, item in value.items():
            check_values(key, source, where)
            check_values(item, source, f"{where}.{key}" if where else key, levels - 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_values(item, source, f"{where}[{index}]", levels - 1)
    elif (problem := _problem(value)) is not None:
        raise ConfigError(f"{source}: {where or 'the value'} {problem}")


def parse_value(text: str, source: str) -> Any:
    """Parse ``text`` as a TOML value, or return it as a string: ``0.01``, ``[1, 2]``, ``SGD``.

    Raises:
        ConfigError: the text begins like a list, table or quoted string and is not one, or it looks like a
            number, a boolean, a tuple or a null value and is not written in TOML's form.
    """
    if text in _PYTHON_WORDS:
        return _PYTHON_WORDS[text]
    try:
        document = parse(f"value = {text}")
    except ValueError as error:
        if text.startswith(("[", "{", '"', "'")):
            raise ConfigError(
                f"{source}: the value is not TOML ({error}); put quotes around strings, "
                "and other quotes around the whole change for the shell"
            ) from error
        _refuse_ambiguous(text, source)
        document = {}
    value = document["value"] if len(document) == 1 else text
    if isinstance(value, date | time):
        raise ConfigError(f"{source}: {text} is a date or time, which no parameter takes; {_quoted(text)}")
    check_values(value, source)
    return value


def _problem(value: Any) -> str | None:
    """Return the problem with a value, as the end of a sentence."""
    if isinstance(value, date | time):
        return f"is a date or time, which no parameter takes; write the text in quotes: '{value}'"
    if isinstance(value, int) and value not in _INTEGERS:
        return f"is an integer of {value.bit_length():,} bits, more than 64; write a smaller number"
    if isinstance(value, str) and "\0" in value:
        return "contains a NUL character, which no name or path may have; leave it out"
    if isinstance(value, str) and re.search("[\ud800-\udfff]", value):
        return "contains bytes that are not UTF-8; write the text in UTF-8"
    return None


def _refuse_ambiguous(text: str, source: str) -> None:
    """Raise for text that is not TOML and is unlikely to be meant as a string."""
    word = text.lower()
    if word in _NOTHING and text != _NAME:
        raise ConfigError(
            f"{source}: {text} is not a value in TOML, which has no null value; "
            f"omit the parameter to use its default; {_quoted(text)}"
        )
    wanted = _BOOLEANS.get(word)
    if wanted is None and (number := _NUMBERS.get(word.lstrip("+-"))):
        wanted = f"-{number}" if text.startswith("-") else number
    if wanted is None and (_LIKE_A_NUMBER.fullmatch(text) or _LIKE_A_BASE.fullmatch(text)):
        wanted = _as_number(text)
    if wanted is None and _LIKE_A_TUPLE.fullmatch(text):
        wanted = f"a list, [{text[1:-1].strip(' ,')[:40]}]"
    if wanted is not None:
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        raise ConfigError(f"{source}: {shown} is not a value in TOML; write {wanted}; {_quoted(shown)}")


def _quoted(text: str) -> str:
    return f"for the text itself write '\"{text}\"', with both quotes"  # the shell removes one pair


def _as_number(text: str) -> str:
    """Return TOML's form of a number that Python can parse."""
    for read in (int, float, lambda digits: int(digits, 0)):
        with suppress(ValueError, OverflowError):
            number = read(text.lower())
            if abs(number) < 2**63:
                return repr(number)
    return "a number that 64 bits hold, with a point if it has a fraction (0.001), or a list ([0, 1])"
