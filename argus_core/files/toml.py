"""Parsing untrusted TOML: size and nesting are checked before the parser allocates memory."""

from __future__ import annotations

import math
import re
import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["MOST_BYTES", "not_toml", "parse"]

MOST_BYTES = 2**20
"""The maximum length of a document."""

_MOST_LEVELS = 64  # of nested arrays and inline tables
_MOST_PARTS = 64  # of a dotted key; the parser takes quadratic memory
_LONGEST_KEY = 1000  # characters of a key with its tables; readers build such a text for each value

# Strings and comments. An unterminated one matches to the end, so that no text is scanned twice.
_TEXTS = re.compile(
    r'"""(?:[^\\]|\\.)*?(?:"{3,5}|\\?\Z)|\'\'\'.*?(?:\'{3,5}|\Z)|"(?:[^"\\\n]|\\[^\n])*"?|\'[^\'\n]*\'?|#[^\n]*',
    re.DOTALL,
)
_KEY_ENDS = re.compile(r"[^\w\-. \t]")
_BRACKETS = re.compile(r"[\[\]{}]")


def parse(text: str) -> dict[str, Any]:
    """Parse ``text``, and return the document.

    Raises:
        ValueError: the text is not TOML, or would take far more memory than its length.
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f"it has {len(text):,} characters, and {MOST_BYTES:,} is the most")
    _check_shape(_TEXTS.sub(_placeholder, text))
    try:
        document: dict[str, Any] = tomllib.loads(text, parse_float=_float)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(_shortened(str(error))) from error
    _check_keys(document)
    return document


def not_toml(path: object, error: ValueError) -> str:
    """Return the message for a file that `parse` refused."""
    action = "; text needs quotes, and parameters braces" if str(error).startswith("Invalid value") else ""
    return f"{path} is not TOML: {error}; correct it{action}"


def _shortened(problem: str) -> str:
    """Return the parser's message with its position, at the end, and with long keys cut short."""
    if "int_max_str_digits" in problem:
        return "an integer has thousands of digits, and 64 bits are the most"
    return problem if len(problem) <= 200 else f"{problem[:120]} ... {problem[-60:]}"


def _placeholder(match: re.Match[str]) -> str:
    return "" if match[0].startswith("#") else "x"  # a string may be part of a key


def _check_shape(bare: str) -> None:
    """Raise for text (without strings and comments) that would take far more memory than its length."""
    parts = 1 + max(piece.count(".") for piece in _KEY_ENDS.split(bare))
    if parts > _MOST_PARTS:
        raise ValueError(f"a key has {parts:,} parts, and {_MOST_PARTS} is the most")
    level = 0
    for bracket in _BRACKETS.findall(bare):
        level += 1 if bracket in "[{" else -1
        if level > _MOST_LEVELS:
            raise ValueError("it is nested too deeply")


def _check_keys(document: dict[str, Any]) -> None:
    """Raise for documents that are nested too deeply or have too long keys."""
    held: list[tuple[Any, int, int]] = [(document, 0, 0)]
    while held:
        value, length, level = held.pop()
        if level > _MOST_LEVELS + _MOST_PARTS:
            raise ValueError("it is nested too deeply")
        if isinstance(value, dict):
            longest = length + max(map(len, value), default=0)
            if longest > _LONGEST_KEY:
                raise ValueError(f"a key has {longest:,} characters, and {_LONGEST_KEY:,} is the most")
            held.extend((item, length + len(key) + 1, level + 1) for key, item in value.items())
        elif isinstance(value, list):
            held.extend((item, length, level + 1) for item in value)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value) and not text.endswith("inf"):
        raise ValueError(f"the number {text[:40]} is beyond the largest that a computer has, about 1.8e308")
    return value
