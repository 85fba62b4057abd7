"""Output files whose paths a user gives: resolving, checking and making them, with clear errors."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from argus_core.errors import ArgusError, ParamsError
from argus_core.files.confinement import check_folder, note_made
from argus_core.files.ordinary_files import as_path
from argus_core.files.working_folder import absolute, shown

__all__ = ["check_writable", "checked_path", "make_folder", "making_files", "place_to_write", "writing"]

_REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "let this user write there"),
    **dict.fromkeys((errno.ENOENT, errno.ESTALE), "restore its folder"),  # removed during the run
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files (ulimit -n)"),
    errno.EROFS: "make its disk writable",
}


def checked_path(callback: str, argument: str, value: object) -> Path:
    """Return ``value`` as a path; ``~`` is the home folder.

    Raises:
        ParamsError: it is not a path, or empty.
    """
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise ParamsError(f"{callback} takes a path for {argument}, such as 'runs/a', not {value!r}")
    try:
        return as_path(value)
    except ValueError as error:
        raise ParamsError(f"{callback} has {argument}={str(value)!r}, which {error}") from error


def place_to_write(callback: str, argument: str, value: object) -> Path:
    """Return ``value`` as a path that stays the same when the process changes its folder.

    Raises:
        ParamsError: it is not a path, or empty.
    """
    return absolute(checked_path(callback, argument, value))


@contextmanager
def making_files(folder: Path) -> Iterator[None]:
    """Record files of unknown names that the block makes in ``folder`` as files of the run."""
    before = set(os.listdir(folder))
    yield
    for name in sorted(set(os.listdir(folder)) - before):
        note_made(folder / name, is_there=True)


def make_folder(callback: str, folder: Path) -> None:
    """Make a folder and its missing parents."""
    with writing(callback, folder):
        check_folder(folder)
        note_made(folder, is_folder=True)
        folder.mkdir(parents=True, exist_ok=True)


def check_writable(callback: str, folder: Path) -> None:
    """Check that files can be made in a folder.

    Raises:
        ArgusError: the system does not allow it.
    """
    with writing(callback, folder):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@contextmanager
def writing(callback: str, path: Path) -> Iterator[None]:
    """Convert a system error about ``path`` to an error with a next action.

    Raises:
        ArgusError: the file or folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "make room there")
        raise ArgusError(
            f"{callback} cannot write {shown(path)!r}: {error.strerror or error}; "
            f"{remedy} or choose another path"
        ) from error
