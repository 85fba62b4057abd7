"""TOML, from the standard library where that has it."""

from __future__ import annotations

import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["parse"]


def parse(text: str) -> dict[str, Any]:
    """Return the document that ``text`` is.

    Raises:
        ValueError: it is not TOML; the message has the line and the column.
    """
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return document
