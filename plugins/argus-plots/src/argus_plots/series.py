"""The curves of a run, from the lines that the callback ``metrics_jsonl`` writes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from argus_core.authors import is_metric_name, opener

__all__ = ["Curve", "Series", "read_lines", "series_of"]

_LONGEST = 2**20  # characters of a line
_MOST_RATES = 100  # parameter groups whose rates are drawn
_MOST_UPDATES = 2**53  # of a run; a float holds each such number


@dataclass
class Curve:
    """The values of one metric in one phase.

    Attributes:
        updates: of each value, since the run began.
        values: nan where a value was not finite.
    """

    updates: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass
class Series:
    """All curves of a run.

    Attributes:
        epochs: the numbers of updates at which epochs ended.
        metrics: the curves by metric and phase: ``{"loss": {"train": ..., "val": ...}}``; the phase of a
            value of no phase is the empty string.
        rates: the learning rate of each parameter group, at its epoch's start.
    """

    epochs: list[int] = field(default_factory=list)
    metrics: dict[str, dict[str, Curve]] = field(default_factory=dict)
    rates: list[Curve] = field(default_factory=list)


def series_of(lines: Iterable[Mapping[str, Any]], phases: Sequence[str]) -> Series:
    """Return the curves of a run; values of the middle of an epoch are points of their own.

    Args:
        lines: as the callback ``metrics_jsonl`` writes them.
        phases: of the run, such as ``train`` and ``val_clean``, the longest first.
    """
    series = Series()
    phase_of = _Phases(phases)
    for line in lines:
        update, is_epoch = line["global_step"], "phase" not in line
        if is_epoch:
            series.epochs.append(update)
            _add_rates(series, update, line.get("lr"))
        elif line["phase"] == "train":
            continue  # running means of an unfinished epoch
        for name, value in line.items():
            if is_metric_name(name):
                phase, metric = phase_of[name]
                curve = series.metrics.setdefault(metric, {}).setdefault(phase, Curve())
                _add(curve, update, value)
    return series


class _Phases(dict[str, tuple[str, str]]):
    """The phase and the metric by name of a value, each of which is looked for once."""

    def __init__(self, phases: Sequence[str]) -> None:
        super().__init__()
        self._phases = phases

    def __missing__(self, name: str) -> tuple[str, str]:
        phase = next((each for each in self._phases if name.startswith(f"{each}_")), "")
        self[name] = phase, name.removeprefix(f"{phase}_")
        return self[name]


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a file of the callback ``metrics_jsonl``.

    Lines of another form, such as one that was cut off, are left out: the file may have been changed, or
    have come with a run from elsewhere.
    """
    with open(path, encoding="utf-8", errors="replace", opener=opener) as file:
        while text := file.readline(_LONGEST):
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            update = line.get("global_step") if isinstance(line, dict) else None
            if type(update) is int and 0 <= update <= _MOST_UPDATES:
                yield line


def _add_rates(series: Series, update: int, lr: Any) -> None:
    rates = lr if isinstance(lr, list) else [] if lr is None else [lr]
    rates = rates[:: math.ceil(len(rates) / _MOST_RATES) or 1]
    series.rates.extend(Curve() for _ in rates[len(series.rates) :])
    for curve, rate in zip(series.rates, rates, strict=False):
        _add(curve, update, rate)


def _add(curve: Curve, update: int, value: Any) -> None:
    if curve.updates and curve.updates[-1] == update:  # a validation at the end of an epoch has two lines
        curve.values.pop()
        curve.updates.pop()
    curve.updates.append(update)
    curve.values.append(_number(value))


def _number(value: Any) -> float:
    """Return a finite number as a float, and nan for anything else, such as the text ``"inf"``."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan
