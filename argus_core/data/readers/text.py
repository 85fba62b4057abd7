"""The reader of text files: each line is a sample."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial

from argus_core.data.readers.abstract_reader import AbstractReader, Load
from argus_core.data.readers.tables import count_lines
from argus_core.errors import ArgusError
from argus_core.files.ordinary_files import open_ordinary

__all__ = ["TextReader"]

_LONGEST = 2**20  # characters of a line


class TextReader(AbstractReader):
    """Reads the lines of .txt files, in UTF-8; empty lines are left out."""

    suffixes = (".txt",)
    sort = "text"

    def samples(self, path: str) -> Iterator[tuple[str | int, Load]]:
        """Yield each line that is not empty, with its number."""
        with (
            open_ordinary(path) as file,
            io.TextIOWrapper(io.BufferedReader(file), encoding="utf-8-sig") as text,
        ):
            for number, line in enumerate(iter(lambda: text.readline(_LONGEST + 1), ""), 1):
                if len(line) > _LONGEST:
                    raise ArgusError(f"line {number} has more than {_LONGEST:,} characters; split it")
                if line.strip():
                    yield number, partial(str, line.rstrip("\n"))

    def count(self, path: str) -> int | None:
        """Return the number of lines."""
        return count_lines(path)
