"""Folders of runs: validity, creation, and advice where the system refuses one."""

from __future__ import annotations

import errno
import os
import reprlib
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from argus_core.errors import ArgusError, ConfigError
from argus_core.files.confinement import check_file, check_folder
from argus_core.files.working_folder import shown
from argus_core.storage.forms import is_folder

__all__ = [
    "OTHER",
    "check_place",
    "check_run_folder",
    "make_run_folder",
    "remedy",
    "remove_empty",
    "usable",
]

OTHER = "choose another with --run-dir"

_REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "allow this user to write in {folder}"),
    errno.EROFS: "copy it to a writable disk",
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free space on its disk"),
    errno.EMLINK: "remove some of the folders beside it",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files (ulimit -n)"),
}


def remedy(error: OSError, folder: str) -> str:
    """Return advice for the user where the system refuses to write in ``folder``."""
    known = _REMEDIES.get(error.errno or 0)
    return f"{known.format(folder=folder)}, or {OTHER}" if known else OTHER


def check_run_folder(path: Path, name: str) -> None:
    """Check that ``path`` is a folder or can be made one.

    Args:
        path: the run directory.
        name: how messages call it.

    Raises:
        ConfigError: something else is there.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise ConfigError(
                f"run directory {name!r} is a symbolic link to {os.path.realpath(path)}, "
                "which does not exist; make that folder first, or remove the link"
            ) from None
        return
    except ValueError as error:
        raise ConfigError(f"run directory {reprlib.repr(name)} cannot be used: {error}; {OTHER}") from error
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"run directory {reprlib.repr(name)} cannot be used: {reason}; {OTHER}") from error
    if not stat.S_ISDIR(mode):
        kind = "a file" if stat.S_ISREG(mode) else "not a folder"
        raise ConfigError(f"run directory {name!r} is {kind}; {OTHER}")


def check_place(path: Path) -> None:
    """Check that a path of a run is that of a file, or of a folder of shards, to which no link leads.

    Raises:
        ConfigError: it is not.
    """
    if is_folder(path.name.removesuffix(".old")):
        check_folder(path)
    else:
        check_file(path)


def make_run_folder(path: Path, name: str) -> None:
    """Make a run directory and its missing parents.

    Raises:
        ArgusError: the system does not allow it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        there = next(folder for folder in path.parents if folder.is_dir())
        raise ArgusError(
            f"run directory {name!r} cannot be made: {reason}; {remedy(error, str(there))}"
        ) from error


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove the folders in which nothing is left, and leave the others."""
    for folder in folders:
        with suppress(OSError):  # it is not empty, or another run has just removed it or put a file into it
            folder.rmdir()


@contextmanager
def usable(name: str) -> Iterator[None]:
    """Raise a system error about a run directory as one sentence.

    Raises:
        ArgusError: it cannot be read or written.
    """
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror or error}; {remedy(error, name)}"
        place = f"{shown(error.filename)}: " if isinstance(error.filename, str) else ""
        raise ArgusError(f"run directory {name!r} cannot be used: {place}{reason}") from error
