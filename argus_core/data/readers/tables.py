"""Readers of tables: .csv, and .parquet where pyarrow is installed. Each row is a sample."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from argus_core.data.arrays.claim import Unsuitable
from argus_core.data.arrays.table import is_number, rows_of
from argus_core.data.readers.abstract_reader import AbstractReader, Load
from argus_core.errors import ArgusError, near
from argus_core.files.ordinary_files import open_ordinary

__all__ = ["CSVReader", "ParquetReader", "chosen_columns", "count_lines", "parquet_of"]

_TARGET = "target"
_BLOCK = 2**20  # bytes
_ROWS = 4096  # read at a time


class CSVReader(AbstractReader):
    """Reads the rows of .csv files, with or without a header.

    Columns are matched by the names of the features that the model knows, in any order, and others are left
    out. A model that knows no names gets all columns but ``target`` and the ``id``.

    Args:
        id: the column with the name of a row; by default rows are counted from 1.
    """

    suffixes = (".csv",)
    sort = "row"

    def __init__(self, id: str | None = None) -> None:
        self.id = id

    def samples(self, path: str) -> Iterator[tuple[str | int, Load]]:
        """Yield each row."""
        with (
            open_ordinary(path) as file,
            io.TextIOWrapper(io.BufferedReader(file), encoding="utf-8-sig", newline="") as text,
        ):
            try:
                yield from self._rows(rows_of(text))
            except csv.Error as error:
                raise ArgusError(f"it is not a table with commas between its columns ({error})") from error

    def _rows(self, rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[str | int, Load]]:
        first = next(rows, None)
        if first is None:
            raise ArgusError("it is empty; give a table of at least one row")
        words = [name.strip() for name in first[1]]
        names_features = bool(self.columns) and {*(self.columns or ())} <= {*words}  # names may be numbers
        header = words if names_features or not all(map(is_number, words)) else None
        names, places, id_place = chosen_columns(header, len(first[1]), self.columns, self.id)
        width, number = len(first[1]), 0
        if header is None:
            number = 1
            yield 1, partial(_numbers, first[1], places, names, width, first[0])
        for line, row in rows:
            number += 1
            is_named = id_place is not None and id_place < len(row)
            name = row[id_place] if is_named and id_place is not None else number
            yield name, partial(_numbers, row, places, names, width, line)

    def count(self, path: str) -> int | None:
        """Return the number of lines."""
        return count_lines(path)


class ParquetReader(AbstractReader):
    """Reads the rows of .parquet files by pyarrow; columns are chosen as of a .csv file.

    Args:
        id: the column with the name of a row; by default rows are counted from 1.
    """

    suffixes = (".parquet", ".pq")
    sort = "row"

    def __init__(self, id: str | None = None) -> None:
        self.id = id

    def samples(self, path: str) -> Iterator[tuple[str | int, Load]]:
        """Yield each row."""
        with open_ordinary(path) as file:
            table = parquet_of("a file in .parquet").ParquetFile(file)
            header = [*table.schema_arrow.names]
            names, places, id_place = chosen_columns(header, len(header), self.columns, self.id)
            wanted = [header[place] for place in places]
            named = [] if id_place is None else [header[id_place]]
            number = 0
            for batch in table.iter_batches(_ROWS, columns=[*{*wanted, *named}]):
                values = [batch.column(name).to_pylist() for name in wanted]
                ids = batch.column(named[0]).to_pylist() if named else None
                for index, row in enumerate(zip(*values, strict=True)):
                    number += 1
                    name = number if ids is None else ids[index]
                    yield name if isinstance(name, int) else str(name), partial(_checked, row, names)

    def count(self, path: str) -> int | None:
        """Return the number of rows that the file states."""
        with open_ordinary(path) as file:
            return int(parquet_of("a file in .parquet").ParquetFile(file).metadata.num_rows)


def count_lines(path: str) -> int:
    """Return the number of lines of a file."""
    with open_ordinary(path) as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK) or b"", b""))


def chosen_columns(
    header: Sequence[str] | None, width: int, features: Sequence[str] | None, id: str | None
) -> tuple[list[str], list[int], int | None]:
    """Return the names and places of the columns of inputs, in order, and the place of the id.

    Args:
        header: the names of the columns, or ``None`` if the table has none.
        width: the number of columns.
        features: the names of the features that the model knows, or ``None``.
        id: the column with names of rows, or ``None``.

    Raises:
        ArgusError: a column is missing, or there are two of its name; the message names it.
    """
    if header is None:
        if id is not None:
            raise ArgusError(f"it has no header, so there is no column {id!r}; give it a header")
        if features is not None and width != len(features):
            raise ArgusError(
                f"it has no header, and {width} columns for {len(features)} features; give it a header with "
                f"{_listed(features)}"
            )
        return [*(features or map(str, range(1, width + 1)))], [*range(width)], None
    id_place = None if id is None else _place(id, header)
    if features is None:
        places = [each for each, name in enumerate(header) if name != _TARGET and each != id_place]
        if not places:
            raise ArgusError("it has no column of inputs; give a table of numbers")
        return [header[each] for each in places], places, id_place
    missing = [name for name in features if name not in header]
    if missing:
        raise ArgusError(
            f"it has no column {_listed(missing)}, which the model was trained with"
            f"{near(missing[0], header) or '; add it, or correct the header'}"
        )
    return [*features], [_place(name, header) for name in features], id_place


def _place(name: str, header: Sequence[str]) -> int:
    if header.count(name) != 1:
        if name in header:
            raise ArgusError(f"it has {header.count(name)} columns {name!r}; rename all but one")
        raise ArgusError(f"it has no column {name!r}{near(name, header) or '; correct the header'}")
    return header.index(name)


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def _numbers(row: list[str], places: list[int], names: list[str], width: int, line: int) -> list[float]:
    """Return the numbers in chosen cells of a row."""
    if len(row) != width:
        raise Unsuitable(f"line {line} has {len(row)} columns, and the first line {width}; correct it")
    try:
        return [float(row[place]) for place in places]
    except ValueError:
        name, cell = next(
            (name, row[place]) for name, place in zip(names, places, strict=True) if not is_number(row[place])
        )
        if not cell.strip():
            raise Unsuitable(f"line {line} has no value of {name!r}; give a number") from None
        raise Unsuitable(f"line {line} has {cell[:40]!r} as {name!r}; give a number") from None


def _checked(row: Sequence[Any], names: list[str]) -> list[float]:
    numbers = []
    for name, value in zip(names, row, strict=True):
        if value is None or isinstance(value, str | bytes):
            raise Unsuitable(f"{name!r} is {'empty' if value is None else repr(value)[:40]}; give a number")
        numbers.append(float(value))
    return numbers


def parquet_of(what: str) -> Any:
    """Return the module ``pyarrow.parquet``; without it, `ArgusError` says what needs it."""
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ArgusError(f"{what} needs pyarrow: pip install pyarrow") from error
