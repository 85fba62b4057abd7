"""Atomic replacement of files: after a crash either the old or the complete new file exists."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
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

__all__ = [
    "lock",
    "make_folder_of",
    "place_of",
    "refusal",
    "replacement",
    "sweep",
    "sync_folder",
    "sync_folders",
]

# No writer leaves its file unchanged for this long.
_ABANDONED_AFTER = 3600.0  # seconds

# .NAME.PROCESS-RANDOM.tmp
_TEMPORARY = re.compile(r"\.(.+)\.(?:([0-9]{1,9})-)?[0-9a-f]+\.tmp", re.DOTALL)

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
            if fcntl is None:  # pragma: no cover - Windows, where an open file cannot be renamed
                file.close()
            os.replace(temporary, target)  # still locked: sweep() removes a file that is not
    except OSError as error:
        raise refusal(path, target, what, error) from error
    sync_folders([target.parent, *new_folders])


def sync_folders(folders: Iterable[Path]) -> None:
    """Flush folders once a file in them is complete and in place: a failure is no reason to end a run."""
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
        name = f".{target.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp"
        temporary = os.path.join(target.parent, name)
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


def sweep(folder: Path, is_target: Callable[[str], bool], by_process: bool = True) -> None:
    """Remove temporary files, and folders of shards, of killed writers from a folder.

    Args:
        folder: may be missing.
        is_target: returns whether temporary files of the target of that name are removed.
        by_process: on systems without locks, whether a writer whose process does not run on this machine
            counts as killed; it may run on another machine.
    """
    try:
        with os.scandir(folder) as files:
            found = [
                (file.path, match[2])
                for file in files
                if (match := _TEMPORARY.fullmatch(file.name)) and is_target(match[1])
            ]
    except (PermissionError, FileNotFoundError, NotADirectoryError):  # not to be read, or not a folder
        return
    for path, writer in found:
        # Another writer may remove it at the same time, or own it.
        with suppress(OSError):
            # Writers make no links or devices; another program's device may have side effects on opening.
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
                # Locked until it is removed: its writer may have made it a moment ago, and locks it next.
                with _locked(path, stat.S_ISDIR(mode)) as locked:
                    if _is_abandoned(path, writer, locked, by_process):
                        _remove(path, stat.S_ISDIR(mode))


def _remove(path: str, is_folder: bool) -> None:
    """Remove a temporary file, or a folder with the files in it; a folder with other folders is kept."""
    if not is_folder:
        os.unlink(path)
        return
    # The manifest first: without it, the folder cannot be taken for a checkpoint.
    for name in sorted(os.listdir(path), key=lambda name: name.endswith(".safetensors")):
        os.unlink(os.path.join(path, name))
    os.rmdir(path)


@contextmanager
def _locked(path: str, is_folder: bool) -> Iterator[bool | None]:
    """Lock an existing file or folder for the block, and yield what ``lock`` returned."""
    if fcntl is None:  # pragma: no cover - Windows, where an open file cannot be removed
        yield None
        return
    access = os.O_RDONLY | os.O_DIRECTORY if is_folder else os.O_RDWR
    descriptor = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        yield lock(descriptor)
    finally:
        os.close(descriptor)


def _is_abandoned(path: str, writer: str | None, locked: bool | None, by_process: bool) -> bool:
    # A writer in another container, whose process is not visible here, still holds its lock. A process
    # number from a container proves nothing, since it may always be 1.
    if locked is False or (locked and writer is not None):
        return bool(locked)
    return time.time() - _changed(path) > _ABANDONED_AFTER or (by_process and writer is not None and not _is_running(int(writer)))


def _changed(path: str) -> float:
    """Return when a file, or the newest in a folder, was written last."""
    inside = [os.path.join(path, name) for name in os.listdir(path)] if os.path.isdir(path) else []
    return max(os.lstat(each).st_mtime for each in (path, *inside))


def lock(descriptor: int) -> bool | None:
    """Lock a file until it is closed; return False if another process holds the lock.

    Returns ``None`` where the file system has no locks; the writer's process and the file's age decide then.
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
    if os.name == "nt":  # pragma: no cover - on Windows signal 0 is CTRL_C_EVENT
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def refusal(path: str | os.PathLike[str], target: Path, what: str, error: OSError) -> CheckpointError:
    """Return the error to raise for a system error while ``path`` was written."""
    reason = error.strerror or str(error)
    there = os.path.isfile(target) or os.path.isdir(target)
    kept = f"the {what} that was there is untouched" if there else "nothing was left behind"
    advice = _ADVICE.get(error.errno or 0, "save elsewhere")
    return CheckpointError(f"cannot write {shown(path)}: {reason}; {kept}; {advice}")
