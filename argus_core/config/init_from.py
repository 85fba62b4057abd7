"""The option ``init_from`` of a model: the file of weights to start from, and which of them to take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from argus_core.errors import ConfigError, ParamsError, near
from argus_core.files.ordinary_files import as_path
from argus_core.registry.factory import described

__all__ = ["InitFrom", "parse_init_from", "read_init_from"]

_KEYS = ("path", "skip", "rename", "weights", "mismatched")
_WEIGHTS = ("average", "trained")
_FRESH = "fresh"


@dataclass(frozen=True)
class InitFrom:
    """The file of weights to start from.

    Attributes:
        path: of the file.
        skip: patterns of names that are not taken; names of the network.
        rename: patterns of the file's names with those of the network's names.
        weights: ``"average"`` or ``"trained"``; ``None`` for the average if there is one.
        skips_mismatched: whether tensors of another shape are not taken either.
    """

    path: Path
    skip: list[str] = field(default_factory=list)
    rename: dict[str, str] = field(default_factory=dict)
    weights: str | None = None
    skips_mismatched: bool = False


def parse_init_from(value: Any) -> InitFrom:
    """Return the choice that a path, or a table with one, makes.

    Raises:
        ParamsError: it is neither, or an option has another value.
    """
    table = {"path": value} if isinstance(value, str | os.PathLike) else value
    if not isinstance(table, Mapping) or not isinstance(table.get("path"), str | os.PathLike):
        raise ParamsError(
            f"init_from is {described(value)}; give the path of a file of weights, or a table such as "
            "{ path = 'base.safetensors', skip = ['head.*'] }"
        )
    for key in table:
        if key not in _KEYS:
            hint = near(str(key), _KEYS) or f"; it takes {', '.join(_KEYS)}"
            raise ParamsError(f"init_from has {key!r}{hint}")
    return InitFrom(
        _path(table["path"]),
        _patterns(table.get("skip", [])),
        _renames(table.get("rename", {})),
        _one_of("weights", table.get("weights"), _WEIGHTS),
        _one_of("mismatched", table.get("mismatched"), (_FRESH,)) is not None,
    )


def read_init_from(value: Any, where: str) -> dict[str, Any]:
    """Return the table of a value of the configuration, after a check.

    Raises:
        ConfigError: it is not as `parse_init_from` takes it.
    """
    try:
        parse_init_from(value)
    except ParamsError as error:
        raise ConfigError(f"{where}: {error}") from error
    return {"path": value} if isinstance(value, str) else dict(value)


def _path(value: Any) -> Path:
    try:
        return as_path(value)
    except ValueError as error:
        raise ParamsError(f"init_from is {value!r}, which {error}") from error


def _patterns(value: Any) -> list[str]:
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, list | tuple) or not all(isinstance(each, str) and each for each in patterns):
        raise ParamsError(
            f"init_from.skip is {described(value)}; give a pattern of names, or a list of them: ['head.*']"
        )
    return list(patterns)


def _renames(value: Any) -> dict[str, str]:
    fits = isinstance(value, Mapping) and all(
        isinstance(old, str) and isinstance(new, str) and old and old.count("*") == new.count("*")
        for old, new in value.items()
    )
    if not fits:
        raise ParamsError(
            f"init_from.rename is {described(value)}; give the file's names with the network's, and as many "
            "* in both: { 'encoder.*' = 'backbone.*' }"
        )
    return dict(value)


def _one_of(key: str, value: Any, known: tuple[str, ...]) -> Any:
    if value is not None and value not in known:
        raise ParamsError(
            f"init_from.{key} is {described(value)}; give {' or '.join(map(repr, known))}, or leave it out"
        )
    return value


read_init_from.takes = (  # type: ignore[attr-defined]
    "a path, or a table of `path`, `skip`, `rename`, `weights`, `mismatched`"
)
