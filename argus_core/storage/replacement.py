"""Atomic replacement of files: after a crash either the old or the complete new file exists."""

from __future__ import annotations

import errno
import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from argus_core.errors import ArgusWarning, CheckpointError
from argus_core.files.confinement import check_file, note_made
from argus_core.files.working_folder import shown
from argus_core.storage.leftovers import HAS_LOCKS, lock, sweep, temporary_name

__all__ = [
    "make_folder_of",
    "place_of",
    "refusal",
    "replacement",
    "sync_folder",
    "sync_folders",
]

# The errors of file systems, mostly network ones, without fsync for folders.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM)

_told: set[Path] = set()  # folders that could not be flushed and were reported

_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space or save elsewhere"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "allow writing to its folder or save elsewhere"),
    **dict.fromkeys((errno.EROFS, errno.EIO), "save elsewhere"),
    errno.EISDIR: "give the name of a file in it",
    errno.ENOTDIR: "give a path through folders only",
    errno.ENAMETOOLONG: "give a shorter name",
}


@contextmanager
def replacement(path: str | os.PathLike[str], what: str = "checkpoint") -> Iterator[BinaryIO]:
    """Yield an empty file that replaces ``path`` when the block ends, and is removed if it raises.

    The file is flushed to the disk at the end of the block. Missing parent folders are made, an existing
    file's permissions are kept, and a symbolic link keeps its target.

    Args:
        path: the file.
        what: the kind of file, for messages.

    Raises:
        CheckpointError: a system call failed; an existing file at ``path`` is unchanged.
    """
    check_file(path)
    target = place_of(path)
    try:
        note_made(target)
        new_folders = make_folder_of(target)
        sweep(target.parent, target.name.__eq__)
        _forget(target)
        with _temporary(target) as (temporary, file):
            yield file
            file.flush()
            os.fsync(file.fileno())
            if not HAS_LOCKS:  # pragma: no cover - Windows, where an open file cannot be renamed
                file.close()
            os.replace(temporary, target)  # still locked: sweep() removes a file that is not
    except OSError as error:
        raise refusal(path, target, what, error) from error
    sync_folders([target.parent, *new_folders])


def sync_folders(folders: Iterable[Path]) -> None:
    """Flush folders once a file in them is complete and in place: a failure must not end a run."""
    for folder in folders:
        try:
            sync_folder(folder)
        except OSError as error:
            _warn_once(folder, error)


def place_of(path: str | os.PathLike[str]) -> Path:
    """Return the path that is written to, without symbolic links.

    Raises:
        CheckpointError: it is not a path.
    """
    try:
        return Path(os.path.realpath(path))
    except ValueError as error:
        raise CheckpointError(f"cannot write {os.fspath(path)!r}: {error}; give another name") from error


def make_folder_of(target: Path, is_folder: bool = False) -> list[Path]:
    """Make the folder of a file, or of a folder, and return the parents of newly made folders."""
    if not is_folder:
        if os.path.isdir(target):
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if os.path.exists(target) and not os.path.isfile(target):
            raise FileExistsError(errno.EEXIST, "it is not an ordinary file")
    missing = [folder for folder in target.parents if not os.path.exists(folder)]
    target.parent.mkdir(parents=True, exist_ok=True)
    return [folder.parent for folder in missing]


@contextmanager
def _temporary(target: Path) -> Iterator[tuple[str, BinaryIO]]:
    temporary, descriptor = _locked_file(target)
    try:
        with open(descriptor, "wb") as file:
            _keep_permissions(temporary, target)
            yield temporary, file
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _keep_permissions(temporary: str, target: Path) -> None:
    """Copy the permissions of the file to replace, if any, to the new file, where they differ.

    A file system with the same permissions for all files may not allow to set them.
    """
    with suppress(FileNotFoundError):
        permissions = stat.S_IMODE(os.stat(target).st_mode) & 0o777
        if permissions != stat.S_IMODE(os.stat(temporary).st_mode):
            os.chmod(temporary, permissions)


def _locked_file(target: Path) -> tuple[str, int]:
    """Return a new, locked file beside the target, and its descriptor."""
    while True:
        temporary = os.fspath(temporary_name(target))
        # 0o666 less the umask, as by open(); tempfile would give 0o600.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(temporary, flags, 0o666)
        # Another writer may have removed it by sweep() before it was locked.
        if lock(descriptor) is not False and os.path.exists(temporary):
            return temporary, descriptor
        os.close(descriptor)
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _forget(target: Path) -> None:
    """Drop the old file from the system's page cache, where it would stay beside the new one."""
    if hasattr(os, "posix_fadvise"):
        # Advice only: the file may be missing or unreadable.
        with suppress(OSError), open(target, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def sync_folder(folder: Path) -> None:
    """Flush a folder to the disk, where the system can."""
    if os.name == "nt":  # pragma: no cover - Windows cannot open folders
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that may be written and not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def _warn_once(folder: Path, error: OSError) -> None:
    if folder not in _told:
        _told.add(folder)
        warnings.warn(
            f"{shown(folder)} cannot be flushed to its disk ({error.strerror or error}): what was just "
            "written may be lost if the machine stops; look after that disk, or save elsewhere",
            ArgusWarning,
            stacklevel=5,
        )


def refusal(path: str | os.PathLike[str], target: Path, what: str, error: OSError) -> CheckpointError:
    """Return the error to raise for a system error while ``path`` was written."""
    reason = error.strerror or str(error)
    there = os.path.isfile(target) or (os.path.isdir(target) and error.errno != errno.EISDIR)
    kept = f"the {what} that was there is untouched" if there else "nothing was left behind"
    advice = _ADVICE.get(error.errno or 0, "save elsewhere")
    return CheckpointError(f"cannot write {shown(path)}: {reason}; {kept}; {advice}")
