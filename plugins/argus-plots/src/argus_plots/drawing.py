"""Drawing with matplotlib, without its global state: no window, no ``pyplot``, no settings of the user."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from argus_core.authors import one_line, replacement
from argus_plots.series import Curve, Series

__all__ = ["IS_OURS", "Best", "draw_curves", "draw_matrices", "write_picture"]

Best = tuple[str, int]
"""A metric, and the number of updates after which it was the best."""

IS_OURS = b"argus_core"
"""A word in the first bytes of each picture."""

_COLUMNS = 3
_MOST_PANELS = 24
_FEW = 40  # points are marked
_WIDE = 100  # the ratio of learning rates from which their axis is logarithmic
_COLOURS = {"train": "C0", "val": "C1", "": "C2"}
_MOST_BESIDE = 4  # matrices
_WIDEST = 32.0  # inches of a picture of matrices
_MOST_NUMBERED = 20  # classes that have their names, and each cell its number
_MOST_NUMBERS = 2000  # in a picture


@contextmanager
def _plain_style() -> Iterator[None]:
    with matplotlib.style.context("default"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font lacks
        yield


def write_picture(path: Path, draw: Callable[[], Figure]) -> None:
    """Write a picture to a PNG file, which replaces an existing one when it is whole.

    Raises:
        CheckpointError: the file cannot be written; an existing one is unchanged.
    """
    with _plain_style():
        figure = draw()
        with replacement(path, "picture") as file:
            figure.savefig(file, format="png", dpi=100, metadata={"Software": IS_OURS.decode()})


def draw_curves(series: Series, best: Best | None = None) -> Figure:
    """Return a figure with a panel for each metric and one for the learning rates.

    Args:
        series: of the run.
        best: is marked by a line.
    """
    panels = [*series.metrics.items()][: _MOST_PANELS - 1]
    count = len(panels) + bool(series.rates)
    columns = min(_COLUMNS, max(count, 1))
    rows = max(math.ceil(count / columns), 1)
    figure = Figure(figsize=(4.6 * columns, 3.2 * rows + 0.4), layout="constrained")
    axes = [figure.add_subplot(rows, columns, number + 1) for number in range(count)]
    scale = _Scale(series)
    for axis, (metric, curves) in zip(axes, panels, strict=False):
        for number, (phase, curve) in enumerate(curves.items()):
            scale.plot(axis, curve, label=phase or metric, color=_COLOURS.get(phase, f"C{number + 3}"))
        _finish(axis, metric, labelled=list(curves) != [""])
    if series.rates:
        _draw_rates(axes[-1], series.rates, scale)
    for axis in axes:
        axis.set_xlabel(scale.unit)
        if best is not None:
            axis.axvline(scale.place(best[1]), color="0.6", linestyle=":")
    _title(figure, series, best, scale)
    return figure


class _Scale:
    """The horizontal axis: epochs, or updates where values lie in the middle of an epoch."""

    def __init__(self, series: Series) -> None:
        curves = [curve for phases in series.metrics.values() for curve in phases.values()]
        self._epochs = {update: number for number, update in enumerate(series.epochs, 1)}
        is_whole = all(update in self._epochs for curve in curves for update in curve.updates)
        self.unit = "epoch" if is_whole else "update"

    def place(self, update: int) -> int:
        return self._epochs.get(update, update) if self.unit == "epoch" else update

    def plot(self, axis: Axes, curve: Curve, **style: Any) -> None:
        marker = "o" if len(curve.values) <= _FEW else None
        places = [self.place(update) for update in curve.updates]
        axis.plot(places, curve.values, marker=marker, markersize=3, **style)


def _draw_rates(axis: Axes, rates: Sequence[Curve], scale: _Scale) -> None:
    for curve in rates:
        scale.plot(axis, curve, color="C7", label="")
    values = [value for curve in rates for value in curve.values if value > 0]
    if values and max(values) > _WIDE * min(values):
        axis.set_yscale("log")
    _finish(axis, "learning rate", labelled=False)


def _finish(axis: Axes, title: str, labelled: bool) -> None:
    axis.set_title(one_line(title), fontsize="medium", parse_math=False)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    if labelled:
        for text in axis.legend(fontsize="small").get_texts():
            text.set_parse_math(False)


def _title(figure: Figure, series: Series, best: Best | None, scale: _Scale) -> None:
    left_out = len(series.metrics) - _MOST_PANELS + 1
    parts = []
    if best is not None:
        parts.append(f"best {one_line(best[0])}: {scale.unit} {scale.place(best[1]):,}")
    if left_out > 0:
        parts.append(f"{left_out} more metrics are in the file metrics.jsonl")
    if parts:
        figure.suptitle("; ".join(parts), fontsize="medium", parse_math=False)


def draw_matrices(matrices: dict[str, list[list[int]]], classes: Sequence[str], title: str) -> Figure:
    """Return a figure of confusion matrices, some side by side.

    Args:
        matrices: the counts of each set of samples: a row for each true class, a column for each predicted.
        classes: their names.
        title: of the figure.
    """
    columns = min(len(matrices), _MOST_BESIDE)
    rows = math.ceil(len(matrices) / columns)
    size = min(max(4.0, 0.45 * len(classes) + 1.5), 14.0, _WIDEST / columns)
    figure = Figure(figsize=(size * columns, (size + 0.3) * rows), layout="constrained")
    for number, (name, counts) in enumerate(matrices.items(), 1):
        axis = figure.add_subplot(rows, columns, number)
        shares = [[value / total for value in row] for row in counts for total in [sum(row) or 1]]
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axis.set_title(one_line(name), fontsize="medium", parse_math=False)
        axis.set_xlabel("predicted")
        axis.set_ylabel("true")
        if len(classes) <= _MOST_NUMBERED:
            if len(matrices) * len(classes) ** 2 <= _MOST_NUMBERS:
                _number(axis, counts, shares)
            names = [one_line(each) for each in classes]
            axis.set_xticks(range(len(names)), names, rotation=45, ha="right", parse_math=False)
            axis.set_yticks(range(len(names)), names, parse_math=False)
    figure.suptitle(title, fontsize="medium", parse_math=False)
    return figure


def _number(axis: Axes, counts: list[list[int]], shares: list[list[float]]) -> None:
    for row, (values, parts) in enumerate(zip(counts, shares, strict=True)):
        for column, (value, share) in enumerate(zip(values, parts, strict=True)):
            colour = "white" if share > 0.5 else "black"
            axis.text(column, row, str(value), ha="center", va="center", color=colour, fontsize="small")
