"""The lines of a table that are ahead of the checkpoint from which a run resumes.

They are removed with the first new line. A run that is killed before its next checkpoint resumes from a later
one, whose lines they are: so the table as it was is kept beside it as ``.NAME.ahead``.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from argus_core.files.confinement import note_made, opener, replacing
from argus_core.storage.stored import Rule

__all__ = ["TABLE", "TableAhead"]

TABLE = Rule(lambda value: isinstance(value, str), "a file's name and its first time", optional=True)

_LONGEST = 100  # characters of a first line that tell tables apart
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

    def identity(self) -> str:
        """Return what tells the table from others: its name, and its first time if it has lines."""
        first = ""
        with suppress(OSError):
            first = _first_time(self._table)
        return f"{self._table.name}/{first}"

    def is_of(self, identity: str) -> bool:
        """Return whether the table is the one that had this identity; only then are its lines removed."""
        name, _, first = identity.partition("/")
        return name == self._table.name and first in ("", _first_time(self._table))

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
    return found[0].decode("utf-8", "replace")[:_LONGEST] if found else ""
