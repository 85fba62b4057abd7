"""The project around a folder: its nearest ``pyproject.toml``."""

from __future__ import annotations

import os
from pathlib import Path

from argus_core.errors import ConfigError
from argus_core.files.ordinary_files import read_ordinary

__all__ = ["LARGEST", "nearest_pyproject"]

LARGEST = 2**20
"""The most bytes of a ``pyproject.toml``."""


def nearest_pyproject(folder: Path | None = None) -> tuple[Path, bytes] | None:
    """Return the path and content of the nearest ``pyproject.toml``, or None if there is none.

    Args:
        folder: where the search begins, upwards; by default the current folder.

    Raises:
        ConfigError: that file cannot be read.
    """
    try:
        start = Path.cwd() if folder is None else folder.absolute()
    except FileNotFoundError:  # the current folder was deleted
        return None
    for path in (parent / "pyproject.toml" for parent in (start, *start.parents)):
        content = _read(path)
        if content is not None:
            return path, content
    return None


def _read(path: Path) -> bytes | None:
    """Return the content of a file, or None if it does not exist or is a folder."""
    try:
        return read_ordinary(path, LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if not os.path.lexists(path):  # in a folder that this user may not read
            return None
        raise ConfigError(
            f"{path} cannot be read: {error.strerror or error}; correct or remove it"
        ) from error
    except ValueError as error:
        if path.is_dir():
            return None
        raise ConfigError(f"{path} {error}; correct or remove it") from error
