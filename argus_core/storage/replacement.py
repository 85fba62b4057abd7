"""A file that takes another's place once it is whole, so that a crash leaves one or the other."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from argus_core.errors import ArgusWarning, CheckpointError
from argus_core.files.confinement import check_file, note_made
from argus_core.files.working_folder import shown

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["replacement", "sweep"]

# No write takes this long without touching its file.
_ABANDONED_AFTER = 3600.0  # seconds

# .NAME.PROCESS-RANDOM.tmp
_TEMPORARY = re.compile(r"\.(.+)\.(?:([0-9]{1,9})-)?[0-9a-f]+\.tmp", re.DOTALL)

# What file systems, of networks above all, say that have no fsync for folders.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM)

_told: set[Path] = set()  # which folders could not be flushed

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
    """Return an empty file that becomes ``path`` when the block ends, and vanishes if it raises.

    The file is on the disk when the block has ended; folders on the way are made; an existing file's
    permissions are kept; a symbolic link keeps pointing where it does.

    Args:
        path: the file.
        what: it is, for messages.

    Raises:
        CheckpointError: the system refused something; the file that was at ``path`` is as it was.
    """
    target = _target(path)
    try:
        note_made(target)
        new_folders = _make_folder(target)
        sweep(target.parent, target.name.__eq__)
        _forget(target)
        with _temporary(target) as (temporary, file):
            yield file
            file.flush()
            os.fsync(file.fileno())
            file.close()
            os.replace(temporary, target)
    except OSError as error:
        raise _refusal(path, target, what, error) from error
    for folder in (target.parent, *new_folders):
        try:
            _sync_folder(folder)
        except OSError as error:  # the file is in its place, and whole: not worth ending a run for
            _warn_once(folder, error)


def _target(path: str | os.PathLike[str]) -> Path:
    check_file(path)
    try:
        return Path(os.path.realpath(path))
    except ValueError as error:
        raise CheckpointError(f"cannot write {os.fspath(path)!r}: {error}; give another name") from error


def _make_folder(target: Path) -> list[Path]:
    """Make the target's folder, and return the folders that hold a new one."""
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
    """Give a new file the permissions of the one that it is to replace, if there is one and they differ.

    Where all files of a file system have the same, there may be no way to set them.
    """
    with suppress(FileNotFoundError):
        permissions = stat.S_IMODE(os.stat(target).st_mode) & 0o777
        if permissions != stat.S_IMODE(os.stat(temporary).st_mode):
            os.chmod(temporary, permissions)


def _locked_file(target: Path) -> tuple[str, int]:
    """Return a new file beside the target and its descriptor, locked."""
    while True:
        name = f".{target.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp"
        temporary = os.path.join(target.parent, name)
        # 0o666 less the umask, as open() has it; tempfile would give 0o600.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(temporary, flags, 0o666)
        # A writer elsewhere may have found it before it was locked, and swept it.
        if _lock(descriptor) is not False and os.path.exists(temporary):
            return temporary, descriptor
        os.close(descriptor)
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _forget(target: Path) -> None:
    """Drop the old file from the system's cache, where it would stay beside the new one to the end."""
    if hasattr(os, "posix_fadvise"):
        # An advice only: there may be no file, or none that may be read.
        with suppress(OSError), open(target, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # pragma: no cover - Windows opens no folders
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


def sweep(folder: Path, is_target: Callable[[str], bool], by_process: bool = True) -> None:
    """Remove temporary files that writers left behind in a folder when they were killed.

    Args:
        folder: it need not exist.
        is_target: returns whether a name is of a file whose writers are meant.
        by_process: whether, where there are no locks, a writer whose process does not run here was killed; it
            may run elsewhere.
    """
    try:
        with os.scandir(folder) as files:
            found = [
                (file.path, match[2])
                for file in files
                if (match := _TEMPORARY.fullmatch(file.name)) and is_target(match[1])
            ]
    except (PermissionError, FileNotFoundError):  # a folder that may be written and not read
        return
    for path, writer in found:
        # Another writer may sweep it at the same time, or own it.
        with suppress(OSError):
            if _is_abandoned(path, writer, by_process):
                os.unlink(path)


def _is_abandoned(path: str, writer: str | None, by_process: bool) -> bool:
    # No writer leaves a link or a device, which somebody else may have put there, and may act when opened.
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return False
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        # A writer in another container, whose process is not seen here, still holds its lock; and where each
        # process of a container has the number 1, the number says nothing.
        is_locked = _lock(descriptor)
        if is_locked is False or (is_locked and writer is not None):
            return bool(is_locked)
        old = time.time() - os.fstat(descriptor).st_mtime > _ABANDONED_AFTER
        return old or (by_process and writer is not None and not _is_running(int(writer)))
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Lock a file until it is closed; return False if somebody else has, ``None`` where there are no locks.

    There, process and age decide.
    """
    if fcntl is None:  # pragma: no cover - Windows
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_running(process: int) -> bool:
    if os.name == "nt":  # pragma: no cover - there, signal 0 is no question
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _refusal(path: str | os.PathLike[str], target: Path, what: str, error: OSError) -> CheckpointError:
    reason = error.strerror or str(error)
    kept = f"the {what} that was there is untouched" if os.path.isfile(target) else "nothing was left behind"
    advice = _ADVICE.get(error.errno or 0, "save elsewhere")
    return CheckpointError(f"cannot write {shown(path)}: {reason}; {kept}; {advice}")
