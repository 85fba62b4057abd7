"""The lock of a run directory: of the processes that would write there, one does.

The system holds it for a process and gives it back when that ends, however it ends. The file's text is for
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

from filelock import FileLock, Timeout

from argus_core.confinement import check_file, opener
from argus_core.errors import ArgusError, ArgusWarning, ConfigError

__all__ = ["locked"]

_PATIENCE = 0.2  # seconds, for one that is just being given back
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
_LONGEST = 4096  # bytes of text


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run directory while the block runs.

    A file system that has no locks is told, and the block runs without one.

    Raises:
        ConfigError: another run holds it.
        ArgusError: the lock's file cannot be written.
    """
    path = folder / ".lock"
    lock = _acquired(path, folder)
    try:
        if lock is not None:
            _write_holder(path)
        yield
    finally:
        if lock is not None:
            # While it is held: whoever has just opened the file sees that it is gone, and makes another.
            with suppress(PermissionError):  # Windows removes no file that is open
                path.unlink(missing_ok=True)
            lock.release()


def _acquired(path: Path, folder: Path) -> FileLock | None:
    check_file(path)
    if path.exists() and path.stat().st_nlink > 1:
        raise ConfigError(f"{path} has another name elsewhere, which no lock has; remove it")
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(timeout=_PATIENCE, poll_interval=_PATIENCE / 4)
    except Timeout:
        raise ConfigError(
            f"{folder} is in use by {_holder(path)}; wait until that run ends, stop it, or choose another "
            "run directory"
        ) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            reason = error.strerror or error
            raise ArgusError(f"cannot lock {folder}: {reason}; make its files writable") from error
        warnings.warn(
            f"{folder} cannot be locked, as its file system has no locks ({error}); see to it that no other "
            "process trains there",
            ArgusWarning,
            stacklevel=4,
        )
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return None
    return lock


def _write_holder(path: Path) -> None:
    if os.name == "nt":  # pragma: no cover - there, nobody can read what another has locked
        return
    with suppress(OSError), open(path, "w", encoding="utf-8", opener=opener) as file:  # of a full disk
        json.dump({"process": os.getpid(), "host": platform.node()}, file)


def _holder(path: Path) -> str:
    """Return who holds a lock, as far as its file says so."""
    try:
        with open(path, encoding="utf-8", opener=opener) as file:
            known = json.loads(file.read(_LONGEST))
        return f"process {int(known['process'])} on {str(known['host'])[:255]!r}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
