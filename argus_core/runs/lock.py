"""The lock of a run directory: one process at a time writes in it.

The operating system releases it when its process ends, however it ends. The file's text is for
messages alone.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from argus_core.errors import ArgusError, ArgusWarning, ConfigError
from argus_core.files.confinement import check_file, fork_refusal, opener
from argus_core.files.working_folder import shown
from argus_core.runs.folder import OTHER, remedy

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from filelock import FileLock

__all__ = ["RunLock", "check_free", "locked"]

_PATIENCE = 0.2  # seconds, for one that is just being given back
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
_LONGEST = 4096  # bytes of text


class RunLock:
    """The lock of a run directory during a run.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / ".lock"
        self._process = os.getpid()
        self._acquire()
        self._folder_identity = _identity(folder)

    @property
    def is_held(self) -> bool:
        """True if this process, not a fork of it, holds the folder's lock.

        A run directory may be moved, removed or replaced. Where the system cannot say, the lock is not held.
        """
        try:
            return os.getpid() == self._process and self._is_of_folder() and self._is_in_place()
        except OSError:
            return False

    def check(self) -> None:
        """Check that the folder and its lock are still those that were locked.

        A lock whose file was removed is taken again.

        Raises:
            ArgusError: the folder is another, another run has it, or the process is a fork of the run's.
        """
        if os.getpid() != self._process:
            raise fork_refusal(self._process, self.folder)
        try:
            is_of_folder, is_in_place = self._is_of_folder(), self._is_in_place()
        except OSError:  # a network may be away for a moment; if it stays away, the next write fails
            return
        if not is_of_folder:
            raise ArgusError(
                f"run directory {shown(self.folder)!r} was moved, removed or replaced during the run; "
                "the run's files are in the original folder; resume from that"
            )
        if not is_in_place:
            self._acquire()

    def release(self) -> None:
        """Release the lock."""
        if self._lock is None or os.getpid() != self._process:
            return
        with suppress(OSError):  # Windows removes no file that is open, and a network may be away
            if self.is_held:
                # While it is held: a process that has just opened the file sees it gone, and makes another.
                self._path.unlink(missing_ok=True)
        with suppress(OSError):  # the system releases it with the process
            self._lock.release()

    def _is_of_folder(self) -> bool:
        return _identity(self.folder) == self._folder_identity

    def _is_in_place(self) -> bool:
        return self._lock is None or _identity(self._path) == self._file_identity

    def _acquire(self) -> None:
        self._lock = _acquired(self._path, self.folder)
        if self._lock is not None:
            _write_holder(self._path)
            self._file_identity = _identity(self._path)


@contextmanager
def locked(folder: Path) -> Iterator[RunLock]:
    """Lock a run directory for the block.

    On a file system without locks it warns, and the block runs without one.

    Raises:
        ConfigError: another run holds it.
        ArgusError: the lock's file cannot be written.
    """
    lock = RunLock(folder)
    try:
        yield lock
    finally:
        lock.release()


def check_free(folder: Path) -> None:
    """Check that no process holds the lock of a run directory, without taking it.

    Raises:
        ConfigError: one holds it.
    """
    path = folder / ".lock"
    if fcntl is None:  # pragma: no cover - Windows
        return
    with suppress(OSError):  # without a file no run is on; one that cannot be opened is reported by `locked`
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(path, folder) from None
        finally:
            os.close(descriptor)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the identity of a file or folder (device and inode), or ``None`` if it is missing.

    Raises:
        OSError: the system cannot say.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def _acquired(path: Path, folder: Path) -> FileLock | None:
    from filelock import FileLock, Timeout  # it takes a while to import, also where nothing is locked

    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        check_file(path)
        _remove_second_name(path)
        lock.acquire(timeout=_PATIENCE, poll_interval=_PATIENCE / 4)
    except (Timeout, BlockingIOError):
        raise _in_use(path, folder) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise _refusal(path, folder, error) from error
        warnings.warn(
            f"{shown(folder)} cannot be locked, as its file system has no locks ({error}); make sure "
            "that no other process trains there",
            ArgusWarning,
            stacklevel=4,
        )
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return None
    return lock


def _remove_second_name(path: Path) -> None:
    """Remove a lock's file that has another name elsewhere, as in a copy by ``cp -al``, unless it is locked.

    Raises:
        BlockingIOError: it is.
    """
    if fcntl is None or not path.exists() or path.stat().st_nlink == 1:
        return
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.lstat(path)):  # else another process was faster
            path.unlink()
    finally:
        os.close(descriptor)


def _in_use(path: Path, folder: Path) -> ConfigError:
    return ConfigError(
        f"{shown(folder)} is in use by {_holder(path)}; wait until that run ends, stop it, or choose another "
        "run directory"
    )


def _refusal(path: Path, folder: Path, error: OSError) -> ArgusError:
    reason, place = error.strerror or error, shown(folder)
    if isinstance(error, PermissionError) and os.path.exists(path):
        return ArgusError(
            f"cannot lock {place}: {reason} for its file {path.name}, which belongs to another user's "
            f"run; remove that file if the run is over, or {OTHER}"
        )
    return ArgusError(f"cannot lock {place}: {reason}; {remedy(error, place)}")


def _write_holder(path: Path) -> None:
    if os.name == "nt":  # pragma: no cover - a process cannot read what another has locked
        return
    with suppress(OSError), open(path, "w", encoding="utf-8", opener=opener) as file:  # of a full disk
        json.dump({"process": os.getpid(), "host": platform.node()}, file)


def _holder(path: Path) -> str:
    """Return the lock's holder, as its file describes it."""
    try:
        with open(path, encoding="utf-8", opener=opener) as file:
            known = json.loads(file.read(_LONGEST))
        return f"process {int(known['process'])} on {str(known['host'])[:255]!r}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
