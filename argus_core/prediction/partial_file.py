"""The table while it grows: rows in PATH.partial, and beside it a journal from which a prediction continues.

A line of the journal says how much of the partial file is whole. It is written once these bytes are on the
disk, so that a process, or a machine, that stops at any moment loses at most the rows since the last line.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from argus_core.errors import ArgusError
from argus_core.files.working_folder import shown
from argus_core.storage.leftovers import lock

__all__ = ["PartialFile", "Progress"]

_EVERY = 2.0  # seconds between lines of the journal
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True)
class Progress:
    """The progress in a line of the journal.

    Attributes:
        batches: that are written.
        size: of the partial file, in bytes.
        rows: in it.
        skipped: the number of samples that were skipped.
        layout: of the table, ``None`` before its first row.
    """

    batches: int = 0
    size: int = 0
    rows: int = 0
    skipped: int = 0
    layout: dict[str, Any] | None = None


class PartialFile:
    """The rows of a table so far.

    Args:
        output: the table.
    """

    def __init__(self, output: Path) -> None:
        self.output = Path(os.path.realpath(output))
        self.path = self.output.with_name(f"{self.output.name}.partial")
        self.journal = self.output.with_name(f"{self.output.name}.partial.journal")
        self.progress = Progress()
        self._waiting: list[Sequence[Any]] = []
        self._next = 0.0
        self._file: FileIO
        self._lines: FileIO

    @contextmanager
    def opened(self, key: Mapping[str, Any], resume: bool, overwrite: bool) -> Iterator[None]:
        """Open it for the block, at its end if it is resumed.

        Args:
            key: what must be the same in a prediction that continues.
            resume: whether to continue where the journal ends; without a journal it begins.
            overwrite: whether a partial file that is there may be replaced.

        Raises:
            ArgusError: there is one of an interrupted prediction, another process writes it, it is of another
                prediction, or a disk is full.
        """
        if self.exists() and not resume and not overwrite:
            raise ArgusError(
                f"{shown(self.path)} is of a prediction that was interrupted; add --resume to continue, or "
                "--overwrite to begin again"
            )
        with self._locked(self.journal) as self._lines, self._locked(self.path) as self._file:
            with self._in_a_sentence():
                if not (resume and self._go_on(dict(key))):
                    self._begin(dict(key))
            try:
                yield
            except BaseException:
                with suppress(OSError):  # the journal says less then
                    self.flush()
                raise
            with self._in_a_sentence():
                self.flush()

    def add(
        self, rows: int, data: bytes, skipped: Sequence[Sequence[Any]], layout: dict[str, Any] | None
    ) -> None:
        """Append the rows of a batch."""
        with self._in_a_sentence():
            _write(self._file, data)
            self._waiting += skipped
            before = self.progress
            self.progress = Progress(
                before.batches + 1,
                before.size + len(data),
                before.rows + rows,
                before.skipped + len(skipped),
                layout or before.layout,
            )
            if time.monotonic() >= self._next:
                self.flush()

    def flush(self) -> None:
        """Bring what was added to the disk, and say so in the journal."""
        os.fsync(self._file.fileno())
        self._write_line({**vars(self.progress), "new": self._waiting})
        self._waiting = []
        self._next = time.monotonic() + _EVERY

    def end(self) -> None:
        """Say in the journal that all rows are there, before the files are moved to their places."""
        with self._in_a_sentence():
            self.flush()
            self._write_line({"ended": True})

    def exists(self) -> bool:
        """Return whether there is a partial file, or its journal."""
        return os.path.lexists(self.path) or os.path.lexists(self.journal)

    def has_ended(self) -> bool:
        """Return whether a process that was interrupted had all rows, and moved files to their places."""
        try:
            with open(self.journal, "rb") as lines:
                return any("ended" in (_parsed(line) or ()) for line in lines)
        except OSError:
            return False

    def latest(self, key: dict[str, Any]) -> Progress:
        """Return the progress that the journal says, of a process that has ended.

        Raises:
            ArgusError: it is of another prediction.
        """
        found: dict[str, Any] = {}
        with open(self.journal, "rb") as lines:
            self._check((_parsed(next(lines)) or {}).get("key"), key)
            for line in lines:
                record = _parsed(line) or {}
                found = record if "batches" in record else found
        return _progress(found)

    def skipped(self) -> Iterator[list[Any]]:
        """Yield the samples that were skipped, in order, from the journal."""
        with open(self.journal, "rb") as lines:
            for line in lines:
                yield from json.loads(line).get("new", ())

    def move(self) -> None:
        """Move the partial file to the place of the table."""
        with self._in_a_sentence():
            os.replace(self.path, self.output)

    def remove(self) -> None:
        """Remove the partial file, if it is there, and the journal."""
        for path in (self.path, self.journal):
            path.unlink(missing_ok=True)

    def _begin(self, key: dict[str, Any]) -> None:
        for file in (self._file, self._lines):
            file.truncate(0)
            file.seek(0)
        self._write_line({"key": key})

    def _go_on(self, key: dict[str, Any]) -> bool:
        """Restore the progress of the last whole line whose bytes are there, and cut off what follows.

        Returns whether there is one.
        """
        size, end, latest = os.fstat(self._file.fileno()).st_size, 0, None
        with open(self.journal, "rb") as lines:
            for line in lines:
                record = _parsed(line)
                if record is None or record.get("size", 0) > size:
                    break
                if end == 0:
                    self._check(record.get("key"), key)
                elif "ended" in record:
                    break  # its files are made once more
                else:
                    latest = record
                end += len(line)
        if latest is None:
            return False
        self.progress = _progress(latest)
        for file, place in ((self._lines, end), (self._file, self.progress.size)):
            file.truncate(place)
            file.seek(place)
        return True

    def _check(self, before: Any, key: dict[str, Any]) -> None:
        if before != key:
            changed = [name for name in key if not isinstance(before, dict) or before.get(name) != key[name]]
            raise ArgusError(
                f"{shown(self.path)} was begun with other {' and '.join(changed) or 'settings'}; give the "
                "same to resume it, or --overwrite without --resume to begin again"
            )

    def _write_line(self, record: dict[str, Any]) -> None:
        _write(self._lines, json.dumps(record).encode() + b"\n")

    @contextmanager
    def _locked(self, path: Path) -> Iterator[FileIO]:
        with self._in_a_sentence():
            file = FileIO(path, "r+", opener=_open)
        with file:
            if lock(file.fileno()) is False:
                raise ArgusError(
                    f"{shown(self.path)} is being written by another process; wait for it, or choose another "
                    "output file"
                )
            yield file

    @contextmanager
    def _in_a_sentence(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            rows = self.progress.rows
            if not self.path.parent.is_dir():
                folder = shown(self.path.parent)
                raise ArgusError(
                    f"cannot write {shown(self.path)}: there is no folder {folder}; make it first"
                ) from error
            kept = f"its {rows:,} rows so far are kept" if rows else "it has no rows yet"
            raise ArgusError(
                f"cannot write {shown(self.path)}: {error.strerror or error}; {kept}; free some space or "
                "allow writing there, and continue with --resume"
            ) from error


def _progress(record: dict[str, Any]) -> Progress:
    return Progress(**{name: value for name, value in record.items() if name != "new"})


def _open(path: str, flags: int) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINKS, 0o666)


def _write(file: FileIO, data: bytes) -> None:
    """Write all of some bytes; a file without a buffer may take fewer at a time."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return a line of a journal, ``None`` if it is not whole."""
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
