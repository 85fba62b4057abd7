"""Pins: which provider a project prefers where several have one name."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from argus_core.components import KINDS
from argus_core.distributions import normalised
from argus_core.errors import ConfigError, near

__all__ = ["NO_PINS", "TABLE", "Pins", "line_of", "read_pins"]

TABLE = "[tool.argus.prefer]"


class Pins(NamedTuple):
    """The preferred providers by ``(kind, name)``, and the file that says so."""

    path: Path | None = None
    providers: Mapping[tuple[str, str], str] = MappingProxyType({})


NO_PINS = Pins()


def read_pins(folder: Path | None = None) -> Pins:
    """Return the pins of the nearest ``pyproject.toml``, in ``folder`` (the current one) or above it.

    Raises:
        ConfigError: that file is not TOML, or its table of pins is not one of ``"kind.name" = "provider"``.
    """
    start = Path.cwd() if folder is None else folder.absolute()
    for path in (parent / "pyproject.toml" for parent in (start, *start.parents)):
        if path.is_file():
            return Pins(path, dict(_pins(path)))
    return NO_PINS


def line_of(pins: Pins, kind: str, name: str) -> int | None:
    """Return the line of the file that holds a pin, counted from 1; None where that cannot be told."""
    if pins.path is None:
        return None
    lines = pins.path.read_text("utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if name in line:  # TOML that ends here has the pin, and one that ends before has not
            try:
                table = _table(_loads("\n".join(lines[:number])))
            except ValueError:
                continue
            if any(key == f"{kind}.{name}" for key, _ in _flat(table)):
                return number
    return None


def _pins(path: Path) -> Iterator[tuple[tuple[str, str], str]]:
    content = path.read_bytes()
    if b"argus" not in content or b"prefer" not in content:
        return  # most projects have no pins: they need not even be parsed
    try:
        table = _table(_loads(content.decode()))
    except ValueError as error:  # of the TOML, and of its UTF-8
        raise ConfigError(f"{path} is not TOML: {error}; correct it") from error
    for key, provider in _flat(table):
        kind, _, name = key.partition(".")
        if not name or not isinstance(provider, str):
            raise ConfigError(
                f"{TABLE} in {path} holds {key!r} = {provider!r}; "
                'write "<kind>.<name>" = "<distribution>", such as "nn_module.unet" = "medseg"'
            )
        if kind not in KINDS:
            raise ConfigError(
                f"{TABLE} in {path} pins {key!r}, but there is no kind {kind!r}{near(kind, KINDS)}"
            )
        yield (kind, name), normalised(provider)


def _table(document: object) -> object:
    for key in ("tool", "argus", "prefer"):
        document = document.get(key, {}) if isinstance(document, dict) else document
    return document


def _loads(text: str) -> dict[str, Any]:
    # Imported here because hardly any project has pins, and start-up is counted in milliseconds.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    document: dict[str, Any] = tomllib.loads(text)
    return document


def _flat(table: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    # Without quotes, nn_module.unet = "medseg" is a table in a table, and means the same.
    if not isinstance(table, dict):
        yield prefix, table
        return
    for key, value in table.items():
        yield from _flat(value, f"{prefix}.{key}" if prefix else key)
