"""Resolution of relative paths that does not depend on later changes of the working directory.

A run resolves each given path once, from the directory in which it began, and then uses the absolute path.
Messages show the path relative to the present directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from argus_core.errors import ConfigError

__all__ = ["absolute", "beginning_in", "shown", "working_folder"]

_began: ContextVar[Path | None] = ContextVar("the folder in which the run began", default=None)


def working_folder() -> Path:
    """Return the folder that relative paths are resolved from.

    Raises:
        ConfigError: the folder was removed.
    """
    began = _began.get()
    try:
        return began or Path.cwd()
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"the working directory cannot be used: {reason}; change to another") from error


@contextmanager
def beginning_in(folder: Path) -> Iterator[None]:
    """Resolve relative paths from ``folder`` while the block runs."""
    token = _began.set(folder)
    try:
        yield
    finally:
        _began.reset(token)


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return an absolute path without "." components; ".." components are kept."""
    path = Path(path)
    return path if path.is_absolute() else working_folder() / path


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path for a message: relative if it lies in the present folder."""
    try:
        return os.fspath(Path(path).relative_to(os.getcwd()))
    except (OSError, ValueError):
        return os.fspath(path)
