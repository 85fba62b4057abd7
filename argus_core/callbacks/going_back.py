"""The lines of a table that are ahead of the checkpoint from which a run resumes.

They are removed with the first new line. A run that is killed before its next checkpoint resumes from a later
one, whose lines they are: so the table as it was is kept beside it as ``.NAME.ahead``.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from argus_core.files.confinement import note_made, opener, replacing

__all__ = ["TableAhead"]


class TableAhead:
    """The table as it was before a run went back.

    Args:
        table: the path of the table.
    """

    def __init__(self, table: Path) -> None:
        self._table = table
        self._is_kept = False

    @property
    def _path(self) -> Path:
        return self._table.with_name(f".{self._table.name}.ahead")

    def keep(self) -> None:
        """Keep a copy of the table."""
        note_made(self._path)
        with (
            open(self._table, encoding="utf-8", errors="surrogateescape", newline="", opener=opener) as file,
            replacing(self._path, newline="", errors="surrogateescape") as copy,
        ):
            while block := file.read(2**16):
                copy.write(block)
        self._is_kept = True

    def put_back(self) -> bool:
        """Restore the table that a killed run has left, and return whether there was one."""
        try:
            is_there = stat.S_ISREG(os.lstat(self._path).st_mode)
        except FileNotFoundError:
            return False
        if is_there:
            os.replace(self._path, self._table)
        return is_there

    def drop(self) -> None:
        """Remove the copy, if this run has made it."""
        if self._is_kept:
            self._is_kept = False
            self._path.unlink(missing_ok=True)
