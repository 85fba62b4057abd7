"""Values as TOML on one line, for ``--set KEY=VALUE``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import tomli_w

__all__ = ["toml_text"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_text(value: Any) -> str:
    """Return ``value`` as TOML: ``0.1``, ``"SGD"``, ``["SGD", { momentum = 0.9 }]``."""
    if isinstance(value, Mapping):
        items = ", ".join(f"{_key(key)} = {toml_text(item)}" for key, item in value.items())
        return f"{{ {items} }}" if items else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_text, value))}]"
    return tomli_w.dumps({"value": value}).partition(" = ")[2].strip()


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else toml_text(key)
