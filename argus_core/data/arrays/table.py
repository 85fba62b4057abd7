"""A reader of .csv tables, one sample per line."""

from __future__ import annotations

import csv
import io
import itertools
import math
from array import array
from collections.abc import Iterator
from io import FileIO

import torch
from torch import Tensor

from argus_core.data.arrays.claim import usual_dtype

__all__ = ["is_number", "read_csv", "rows_of"]

_MOST_ROW = 4 * 2**20  # characters; split into cells, they take twenty times as much
_INT64 = range(-(2**63), 2**63)
_TARGET = "target"


def read_csv(file: FileIO) -> dict[str, Tensor]:
    """Return the numeric columns as the input, and the column ``target`` of a header as the targets.

    Raises:
        ValueError: the file has other contents; the message names the line.
    """
    with io.TextIOWrapper(io.BufferedReader(file), encoding="utf-8-sig", newline="") as text:
        return _read(rows_of(text))


def _read(rows: Iterator[tuple[int, list[str]]]) -> dict[str, Tensor]:
    first = next(rows, None)
    start = [] if first is None else first[1]
    names = [] if all(map(is_number, start)) else [name.strip() for name in start]
    if names.count(_TARGET) > 1:
        raise ValueError("two of its columns are named target")
    if names == [_TARGET]:
        raise ValueError("there is no column of inputs")
    width = len(start)
    column = names.index(_TARGET) if _TARGET in names else None
    inputs, targets = array("d"), _Targets()
    for number, row in rows if names or first is None else itertools.chain([first], rows):
        if len(row) != width:
            raise ValueError(f"line {number} is not {width} numbers with commas between")
        if column is not None:
            targets.add(row.pop(column), number)
        inputs.extend([_number(cell, number, width) for cell in row])
    flat = _tensor(inputs, torch.float64).to(torch.get_default_dtype())
    tensors = {"input": flat.reshape(-1, max(1, width - (column is not None)))}
    if column is not None:
        tensors[_TARGET] = targets.tensor()
    return tensors


class _Targets:
    """The target column, kept as integers while all of its values are integers."""

    def __init__(self) -> None:
        self.numbers = array("d")
        self.whole: array[int] | None = array("q")

    def add(self, cell: str, line: int) -> None:
        self.numbers.append(_number(cell, line, 1))
        if self.whole is None:
            return
        try:
            value = int(cell)
        except ValueError:
            self.whole = None
            return
        if value not in _INT64:
            raise ValueError(f"the target on line {line} does not fit into 64 bits")
        self.whole.append(value)

    def tensor(self) -> Tensor:
        if self.whole is not None:
            return _tensor(self.whole, torch.int64)
        return _tensor(self.numbers, torch.float64).to(usual_dtype(_TARGET, torch.float64))


def rows_of(text: io.TextIOWrapper) -> Iterator[tuple[int, list[str]]]:
    """Yield each non-empty row with its line number, counted from 1."""
    unread = 0

    def lines() -> Iterator[str]:
        nonlocal unread
        while line := text.readline(_MOST_ROW + 1):
            unread += len(line)
            if unread > _MOST_ROW:
                raise ValueError(f"line {reader.line_num + 1} has more than {_MOST_ROW:,} characters")
            yield line

    reader = csv.reader(lines(), strict=True)
    for row in reader:
        unread = 0
        if row:
            yield reader.line_num, row


def _number(cell: str, line: int, width: int) -> float:
    try:
        number = float(cell)
    except ValueError:
        raise ValueError(f"line {line} is not {width} numbers with commas between") from None
    if math.isinf(number) and "inf" not in cell.lower():
        raise ValueError(f"a number on line {line} is beyond the largest that a computer has, about 1.8e308")
    return number


def is_number(cell: str) -> bool:
    """Return whether a cell is a number, nan and inf among them."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _tensor(numbers: array[float] | array[int], dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(numbers, dtype=dtype) if numbers else torch.empty(0, dtype=dtype)
