"""Temporary files and folders that killed writers have left; those in use are locked."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["HAS_LOCKS", "lock", "sweep", "temporary_name"]

HAS_LOCKS = fcntl is not None
"""False on Windows, where an open file cannot be renamed either."""

# No writer leaves its file unchanged for this long.
_ABANDONED_AFTER = 3600.0  # seconds

# .NAME.PROCESS-RANDOM.tmp
_TEMPORARY = re.compile(r"\.(.+)\.(?:([0-9]{1,9})-)?[0-9a-f]+\.tmp", re.DOTALL)


def temporary_name(target: Path) -> Path:
    """Return a new name beside the target, which `sweep` knows."""
    return target.with_name(f".{target.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")


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
    return time.time() - _changed(path) > _ABANDONED_AFTER or (
        by_process and writer is not None and not _is_running(int(writer))
    )


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
