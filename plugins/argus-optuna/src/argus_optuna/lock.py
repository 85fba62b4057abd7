"""A lock that the system gives back when its holder ends, however it ends: kill -9 too."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from argus_core import ArgusError

__all__ = ["Lock"]


class Lock:
    """Held by one process at a time, by SQLite's locks on a file, which work on every system.

    A process that it started does not hold it too, as with other locks on files: a data loader's worker that
    outlives a killed run keeps nothing.

    Args:
        path: the file; it is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None

    def acquire(self, timeout: float = 0.0) -> bool:
        """Take the lock; return whether that was possible within ``timeout`` seconds.

        Raises:
            ArgusError: the file cannot be written.
        """
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(self.path, timeout=timeout, isolation_level=None)
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if connection is not None:
                connection.close()
            if "locked" in str(error):
                return False
            raise ArgusError(
                f"{str(self.path)!r} cannot be locked: {error}; choose another folder"
            ) from error
        self._connection = connection
        return True

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
