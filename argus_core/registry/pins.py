"""Pins: the package that a project prefers where several provide the same name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from argus_core.errors import ConfigError, near
from argus_core.files.ordinary_files import read_ordinary
from argus_core.registry.component import KINDS
from argus_core.registry.metadata import normalised
from argus_core.registry.project import LARGEST, nearest_pyproject
from argus_core.text import shown

__all__ = ["NO_PINS", "TABLE", "Pins", "line_of", "read_pins"]

TABLE = "[tool.argus.prefer]"


class Pins(NamedTuple):
    """The preferred packages of a project.

    Attributes:
        path: the ``pyproject.toml`` with the pins.
        providers: the package by ``(kind, name)``.
        fault: the reason that the file cannot be read, or ``""``; with a fault, short names are not resolved.
    """

    path: Path | None = None
    providers: Mapping[tuple[str, str], str] = MappingProxyType({})
    fault: str = ""


NO_PINS = Pins()


def read_pins(folder: Path | None = None) -> Pins:
    """Return the pins of the nearest ``pyproject.toml``, in ``folder`` (by default the current one) or above.

    Raises:
        ConfigError: that file cannot be read, or a pin is not of the form ``"kind.name" = "package"``.
    """
    found = nearest_pyproject(folder)
    if found is not None:
        path, content = found
        return Pins(path, dict(_pins(path, content)))
    return NO_PINS


def line_of(pins: Pins, kind: str, name: str) -> int | None:
    """Return the line of the table that holds a pin as it is usually written, counted from 1."""
    lines = read_ordinary(pins.path, LARGEST).decode().splitlines() if pins.path else []
    is_below = False
    for number, line in enumerate(lines, 1):
        if is_below and line.partition("=")[0].strip().strip("\"'") == f"{kind}.{name}":
            return number
        is_below = is_below or line.strip() == TABLE
    return None


def _pins(path: Path, content: bytes) -> Iterator[tuple[tuple[str, str], str]]:
    if b"argus" not in content or b"prefer" not in content:
        return  # most projects have no pins; the file is not parsed then
    from argus_core.files.toml import not_toml, parse  # not at start-up, where milliseconds count

    try:
        pinned = [*_flat(_table(parse(content.decode())))]
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigError(not_toml(path, error)) from error
    for key, provider in pinned:
        kind, _, name = key.partition(".")
        if not name or not isinstance(provider, str):
            raise ConfigError(
                f"{TABLE} in {path} holds {shown(key)} = {shown(provider)}; "
                'write "<kind>.<name>" = "<distribution>", such as "nn_module.unet" = "medseg"'
            )
        if kind not in KINDS:
            raise ConfigError(
                f"{TABLE} in {path} pins {shown(key)}, but there is no kind {shown(kind)}{near(kind, KINDS)}"
            )
        yield (kind, name), normalised(provider)


def _table(document: object) -> object:
    for key in ("tool", "argus", "prefer"):
        document = document.get(key, {}) if isinstance(document, dict) else document
    return document


def _flat(table: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    # Without quotes, nn_module.unet = "medseg" is a table in a table with the same meaning.
    if not isinstance(table, dict):
        yield prefix, table
        return
    for key, value in table.items():
        yield from _flat(value, f"{prefix}.{key}" if prefix else key)
