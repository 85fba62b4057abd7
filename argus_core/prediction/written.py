"""The files in which a prediction on files ends: the table, and the list of samples that were skipped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argus_core.errors import ArgusError
from argus_core.prediction.formats import APPENDED, encoded, write_packed
from argus_core.prediction.partial_file import PartialFile
from argus_core.storage.replacement import replacement

__all__ = ["Written", "finish", "nothing_read", "skipped_path"]


@dataclass(frozen=True)
class Written:
    """A table that was written.

    Attributes:
        path: of the table.
        rows: in it.
        skipped: the samples that could not be read.
        skipped_path: the list of them, ``None`` if there are none.
    """

    path: Path
    rows: int
    skipped: int
    skipped_path: Path | None


def skipped_path(output: Path) -> Path:
    """Return the path of the list of samples that were skipped, beside a table."""
    return output.with_name(f"{output.stem}.skipped.csv")


def finish(partial: PartialFile, suffix: str, listed: Path) -> None:
    """Make the table of all rows, and the list of samples that were skipped.

    Args:
        partial: the rows.
        suffix: of the table.
        listed: the path of the list, which is removed if none were.
    """
    partial.end()
    if partial.progress.skipped:
        skipped = {"file": [], "row": [], "reason": []}  # type: dict[str, list[Any]]
        with replacement(listed, "file") as file:
            file.write(b"file,row,reason\n")
            for each in partial.skipped():
                for name, value in zip(skipped, each, strict=True):
                    skipped[name] = [value]
                file.write(encoded(".csv", skipped, is_first=False))
    elif os.path.lexists(listed):
        os.unlink(listed)  # of the table that is replaced
    if suffix in APPENDED:
        partial.move()
    else:
        with replacement(partial.output, "file") as file:
            write_packed(partial.path, suffix, partial.progress.rows, file)


def nothing_read(skipped: int, first: Sequence[Any] | None) -> ArgusError:
    """Return the error for files of which no sample could be read.

    Args:
        skipped: the number of samples.
        first: file, row and reason of the first of them.
    """
    if first is None:
        return ArgusError("the files hold no samples to predict on; give others")
    file, row, reason = first
    where = f"{file}, row {row}" if row != "" else file
    if skipped == 1:
        return ArgusError(f"{where} cannot be read: {reason}")
    return ArgusError(f"none of {skipped:,} samples can be read; the first is {where}: {reason}")
