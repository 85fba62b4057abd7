"""The table of a run's epochs, for a terminal or a log."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from argus_core.callbacks.epoch_report import EpochRecord, format_lr, format_number, of_epochs
from argus_core.text import one_line

__all__ = ["epoch_table"]

_GAP = "  "
_BEST = " *"


def epoch_table(
    records: Sequence[EpochRecord], width: int, best: int | None = None, monitor: str = ""
) -> str:
    """Return a table with a row for each of ``records``.

    Args:
        records: epochs that are done.
        width: in characters. Where that is not enough, learning rates are left out; metrics that do not fit
            then, the last ones first, are counted below the table.
        best: the number of the best epoch, counting from 0; it gets a mark.
        monitor: the metric by which it is the best.
    """
    metrics = list(dict.fromkeys(name for record in records for name in record.metrics))
    epochs = [of_epochs(record.epoch, record.num_epochs) for record in records]
    if best is not None:
        marks = [_BEST if record.epoch == best else " " * len(_BEST) for record in records]
        epochs = [epoch + mark for epoch, mark in zip(epochs, marks, strict=True)]
    columns = [_column(name, [record.metrics.get(name) for record in records]) for name in metrics]
    first = ["epoch" + (" " * len(_BEST) if best is not None else ""), *epochs]
    seconds = ["seconds", *(f"{record.seconds:.1f}" for record in records)]
    last = [["lr at start", *(format_lr(record.lr, record.groups) for record in records)], seconds]
    if _fitting(columns, [first, *last], width) < len(columns):
        last = [seconds]
    fitting = _fitting(columns, [first, *last], width)
    lines = _lines([first, *columns[:fitting], *last])
    if any(record.epoch == best for record in records):
        lines.append(one_line(f"* best {monitor}"))
    if fitting < len(columns):
        lines.append(f"not shown: {len(columns) - fitting} of {len(columns)} metrics")
    return "\n".join(lines)


def _fitting(columns: Sequence[Sequence[str]], others: Sequence[Sequence[str]], width: int) -> int:
    """Return how many columns fit beside the others."""
    room = width - sum(map(_width, others)) - len(_GAP) * (len(others) - 1)
    return sum(taken <= room for taken in accumulate(len(_GAP) + _width(column) for column in columns))


def _column(name: str, values: Sequence[float | None]) -> list[str]:
    return [one_line(name), *("" if value is None else format_number(value) for value in values)]


def _width(column: Sequence[str]) -> int:
    return max(map(len, column))


def _lines(columns: Sequence[Sequence[str]]) -> list[str]:
    widths = [_width(column) for column in columns]
    return [
        _GAP.join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in zip(*columns, strict=True)
    ]
