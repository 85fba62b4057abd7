"""Files that a resumed run appends to: read line by line, never whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from argus_core.errors import ArgusError
from argus_core.files.ordinary_files import MOST_COMPRESSED, allocated

__all__ = ["count_lines", "lines_of"]

_FREE = 2**26  # bytes that a file may claim whatever the disk says
_LONGEST = 2**20  # bytes, or characters


def count_lines(callback: str, path: Path, file: IO[bytes], most: int | None) -> tuple[int, int, bool]:
    """Return the number of lines, up to ``most``, their end in bytes, and whether the last is cut off.

    Raises:
        ArgusError: the disk does not hold what the file claims.
    """
    _check_dense(callback, path, file)
    count = end = 0
    is_cut_off = False
    while most is None or count < most or is_cut_off:
        piece = file.readline(_LONGEST)
        if not piece:
            break
        is_new, is_cut_off = not is_cut_off, not piece.endswith(b"\n")
        count, end = count + is_new, end + len(piece)
    return count, end, is_cut_off


def lines_of(callback: str, path: Path, file: IO[str]) -> Iterator[str]:
    """Yield the lines of a file.

    Raises:
        ArgusError: the disk does not hold what the file claims, or a line is too long to be about an epoch.
    """
    _check_dense(callback, path, file)
    while line := file.readline(_LONGEST):
        if len(line) == _LONGEST:
            raise _refusal(callback, path, f"a line has {_LONGEST:,} characters or more")
        yield line


def _check_dense(callback: str, path: Path, file: IO[Any]) -> None:
    size, held = os.fstat(file.fileno()).st_size, allocated(file)
    if size > max(_FREE, MOST_COMPRESSED * held):
        raise _refusal(callback, path, f"its size is {size:,} bytes, of which {held:,} are on the disk")


def _refusal(callback: str, path: Path, reason: str) -> ArgusError:
    return ArgusError(
        f"{callback} cannot append to {str(path)!r}: {reason}; remove it, or choose another path"
    )
