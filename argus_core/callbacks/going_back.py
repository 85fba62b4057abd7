"""The lines of a table that are ahead of the checkpoint from which a run resumes.

They are removed with the first new line. A run that is killed before its next checkpoint resumes from a later
one, whose lines they are: so the table as it was is kept beside it as ``.NAME.ahead``.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from argus_core.files.confinement import note_made, opener, replacing

__all__ = ["TableAhead"]

_TIME = re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]+")


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
        """Keep a copy of the table, unless a killed run that went back as well has left one."""
        self._is_kept = True
        if self._is_there():
            return
        note_made(self._path)
        with (
            open(self._table, encoding="utf-8", errors="surrogateescape", newline="", opener=opener) as file,
            replacing(self._path, newline="", errors="surrogateescape") as copy,
        ):
            while block := file.read(2**16):
                copy.write(block)

    def put_back(self) -> bool:
        """Restore the table that a killed run has left, and return whether there was one."""
        is_there = self._is_there()
        if is_there:
            os.replace(self._path, self._table)
        return is_there

    def _is_there(self) -> bool:
        """Return whether there is a copy, and of this table: its first time is the same."""
        try:
            if not stat.S_ISREG(os.lstat(self._path).st_mode):
                return False
        except FileNotFoundError:
            return False
        return _first_time(self._path) == _first_time(self._table)

    def drop(self) -> None:
        """Remove the copy, if this run has made it."""
        if self._is_kept:
            self._is_kept = False
            self._path.unlink(missing_ok=True)


def _first_time(path: Path) -> str:
    with open(path, "rb", opener=opener) as file:
        text = file.read(2**16)
    found = _TIME.search(text) or re.search(rb".*", text)
    return found[0].decode("utf-8", "replace") if found else ""
