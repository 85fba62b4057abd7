"""A table in a .csv file as a dataset (kind ``dataset``, ``csv``)."""

from __future__ import annotations

import csv
import io
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from argus_core.data.arrays.table import is_number, rows_of
from argus_core.errors import BuildError, ParamsError, near
from argus_core.files.ordinary_files import open_ordinary
from argus_core.files.output_files import checked_path
from argus_core.files.working_folder import shown
from argus_core.registry.factory import described
from argus_core.registry.file_params import READS

__all__ = ["csv_table"]

_LABEL = "dataset 'csv'"
_MOST_CLASSES_SHOWN = 5


def csv_table(
    path: str | Path,
    target: str | Sequence[str],
    features: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    classes: bool | Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
) -> TensorDataset:
    """The rows of a .csv file with a header: input (features,), and the target.

    A target of numbers is a tensor (targets,) for regression. A target of words is the number of its class,
    an integer. Numbers have torch's default dtype. A cell that is empty or not a number is refused, and named
    by its line and column.

    Args:
        path: of the file, in UTF-8, with commas between columns.
        target: the column of the target, or a list of columns of numbers.
        features: the columns of the input, in order; by default all but ``target`` and ``ignore``.
        ignore: columns to leave out, such as names of rows.
        classes: the names of the classes in the order of their numbers, ``True`` if a target of numbers names
            classes; by default the words in the column, sorted.
        units: of features and targets, by column.
    """
    file = checked_path(_LABEL, "path", path)
    targets = _names("target", [target] if isinstance(target, str) else target)
    ignored = _names("ignore", ignore, may_be_empty=True)
    if features is not None:
        features = _names("features", features)
    if not (classes is None or isinstance(classes, bool)):
        classes = _names("classes", classes)
    if classes and len(targets) > 1:
        raise ParamsError(f"{_LABEL} has classes and {len(targets)} targets; give one target, or no classes")
    with _opened(file) as table:
        return _read(table, targets, features, ignored, classes, units or {})


csv_table.file_params = {"path": READS}  # type: ignore[attr-defined]


class _Table:
    """The rows of a file below its header."""

    def __init__(self, rows: Iterator[tuple[int, list[str]]], file: str) -> None:
        self.file = file
        _, header = next(rows, (0, []))
        if all(map(is_number, header)):
            raise BuildError(f"{_LABEL} finds no header in {file}; begin it with a line of column names")
        self.header = [name.strip() for name in header]
        self._rows = rows
        self._most = torch.finfo(torch.get_default_dtype()).max

    def place(self, name: str, argument: str) -> int:
        """Return the place of a column."""
        if (count := self.header.count(name)) == 1:
            return self.header.index(name)
        if count:
            raise BuildError(f"{_LABEL} finds {count} columns {name!r} in {self.file}; rename all but one")
        hint = near(name, self.header) or f"; it has {_listed(self.header)}"
        raise ParamsError(f"{_LABEL} has {argument} {name!r}, which is not a column of {self.file}{hint}")

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each row with the number of its line."""
        for line, row in self._rows:
            if len(row) != len(self.header):
                raise BuildError(
                    f"{_LABEL} finds {len(row)} columns on line {line} of {self.file}, and "
                    f"{len(self.header)} in the header; correct the line"
                )
            yield line, row

    def numbers(
        self, line: int, row: list[str], names: Sequence[str], places: Sequence[int]
    ) -> Iterator[float]:
        """Yield the numbers in the cells of a row."""
        for name, place in zip(names, places, strict=True):
            try:
                number = float(row[place])
            except ValueError:
                raise self.refused(line, name, row[place], "give a number") from None
            if not abs(number) <= self._most:  # nan among them
                raise self.refused(line, name, row[place], f"give a number up to {self._most:.3g}")
            yield number

    def refused(self, line: int, name: str, cell: str, wanted: str) -> BuildError:
        """Return the error for a cell."""
        cell = cell.strip()
        has = f"{cell[:40]!r} as {name!r}" if cell else f"no value of {name!r}"
        action = f"{wanted}, remove the line, or leave the column out with ignore"
        return BuildError(f"{_LABEL}: line {line} of {self.file} has {has}; {action}")


@contextmanager
def _opened(file: Path) -> Iterator[_Table]:
    """Open a file for the block, whose faults are one sentence."""
    try:
        with (
            open_ordinary(file) as opened,
            io.TextIOWrapper(io.BufferedReader(opened), encoding="utf-8-sig", newline="") as text,
        ):
            yield _Table(rows_of(text), shown(file))
    except FileNotFoundError:
        place = f"{shown(file)} (from {os.getcwd()!r})"
        raise BuildError(f"{_LABEL} finds no file {place}; correct path") from None
    except OSError as error:
        reason = error.strerror or error
        raise BuildError(f"{_LABEL} cannot read {shown(file)}: {reason}; check path") from error
    except (ValueError, csv.Error) as error:
        raise BuildError(
            f"{_LABEL} cannot use {shown(file)}, which is not a table with commas in UTF-8 ({error})"
        ) from error


def _read(
    table: _Table,
    targets: list[str],
    features: Sequence[str] | None,
    ignore: Sequence[str],
    classes: bool | Sequence[str] | None,
    units: Mapping[str, str],
) -> TensorDataset:
    target_places = [table.place(name, "target") for name in targets]
    left_out = {*target_places, *(table.place(name, "ignore") for name in ignore)}
    names = [name for place, name in enumerate(table.header) if place not in left_out]
    names = names if features is None else [*features]
    places = [table.place(name, "features") for name in names]
    if both := [name for name in names if table.header.index(name) in left_out]:
        raise ParamsError(f"{_LABEL} has {both[0]!r} among the features and left out; choose one")
    if not names:
        raise ParamsError(
            f"{_LABEL} finds no column of {table.file} besides {_listed(targets)}; give features"
        )
    for name in units:
        if name not in (*names, *targets):
            raise ParamsError(f"{_LABEL} has a unit of {name!r}, which is neither a feature nor the target")
    inputs, numbers, words = array("d"), array("d"), _Words()
    for line, row in table.rows():
        inputs.extend(table.numbers(line, row, names, places))
        words.add(line, row[target_places[0]].strip())
        if not classes and words.are_numbers:
            numbers.extend(table.numbers(line, row, targets, target_places))
    rows = len(words.cells)
    described_by: dict[str, Any] = {"feature_names": names, "units": dict(units)}
    if classes or not words.are_numbers:
        if not classes:
            _check_words(table, targets, words, classes)
        known, target = _classes(table, targets[0], words, classes)
        described_by["classes"] = known
    else:
        target = _tensor(numbers).reshape(rows, len(targets))
        described_by["target_names"] = targets
    dataset = TensorDataset(_tensor(inputs).reshape(rows, len(names)), target)
    # Not a class of its own, as a run reads a plain TensorDataset fastest.
    vars(dataset).update(described_by)
    return dataset


class _Words:
    """The cells of the target column."""

    def __init__(self) -> None:
        self.lines: array[int] = array("q")
        self.cells: list[str] = []
        self.first_word = (0, "")
        self.are_numbers = True
        self._same: dict[str, str] = {}

    def add(self, line: int, cell: str) -> None:
        self.lines.append(line)
        self.cells.append(self._same.setdefault(cell, cell))
        if self.are_numbers and cell and not is_number(cell):
            self.are_numbers, self.first_word = False, (line, cell)


def _check_words(table: _Table, targets: list[str], words: _Words, classes: Any) -> None:
    """Check that words in the target column are classes, and not slips among numbers."""
    line, word = words.first_word
    if len(targets) > 1 or classes is False:
        raise table.refused(line, targets[0], word, "give a number")
    if any(map(is_number, {*words.cells})):
        raise BuildError(
            f"{_LABEL}: line {line} of {table.file} has {word[:40]!r} as {targets[0]!r}, and other lines "
            "have numbers; correct it, or set classes = true if all are classes"
        )


def _classes(
    table: _Table, name: str, words: _Words, classes: bool | Sequence[str] | None
) -> tuple[list[str], Tensor]:
    """Return the names of the classes, and the class of each row."""
    known = [*classes] if isinstance(classes, Sequence) else _sorted({*words.cells})
    numbers = {word: number for number, word in enumerate(known)}
    for line, cell in zip(words.lines, words.cells, strict=True):
        if not cell:
            raise BuildError(f"{_LABEL}: line {line} of {table.file} has no value of {name!r}; give a class")
        if cell not in numbers:
            raise BuildError(
                f"{_LABEL}: line {line} of {table.file} has {cell[:40]!r} as {name!r}, which is not among "
                f"classes ({_listed(known)}); add it there, or correct the line"
            )
    return known, torch.tensor([numbers[cell] for cell in words.cells], dtype=torch.int64)


def _sorted(words: Iterable[str]) -> list[str]:
    found = [*words]
    return sorted(found, key=float) if all(map(is_number, found)) else sorted(found)


def _tensor(numbers: array[float]) -> Tensor:
    found = torch.frombuffer(numbers, dtype=torch.float64) if numbers else torch.empty(0)
    return found.to(torch.get_default_dtype(), copy=True)


def _names(argument: str, value: Any, may_be_empty: bool = False) -> list[str]:
    is_list = isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
    if not is_list or not (value or may_be_empty):
        raise ParamsError(f"{_LABEL} has {argument} {described(value)}; give a list of names")
    if twice := next((name for name in value if value.count(name) > 1), None):
        raise ParamsError(f"{_LABEL} has {twice!r} twice in {argument}; give it once")
    return [*value]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_CLASSES_SHOWN
    return ", ".join(map(repr, names[:_MOST_CLASSES_SHOWN])) + (f" and {more} more" if more > 0 else "")
