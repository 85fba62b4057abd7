"""A lock that the system releases when its holder ends, also after kill -9."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from argus_core import ArgusError

__all__ = ["Lock"]


class Lock:
    """A lock that one process holds at a time; it uses SQLite's file locks, which work on every system.

    Child processes do not inherit the lock: a loader's worker that outlives a killed run does not keep it.

    Args:
        path: the file, which is created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None

    def acquire(self, timeout: float = 0.0) -> bool:
        """Acquire the lock; return whether that succeeded within ``timeout`` seconds.

        Raises:
            ArgusError: the file cannot be written, or is not a lock.
        """
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(self.path, timeout=timeout, isolation_level=None)
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:  # another sort of file raises DatabaseError
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
        """Release the lock, if it is held."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
