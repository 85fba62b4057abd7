"""The curves of a run, from the lines that the callback ``metrics_jsonl`` writes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from argus_core.authors import is_metric_name, opener

__all__ = ["Curve", "Series", "read_lines", "series_of"]


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
    for line in lines:
        update, is_epoch = line["global_step"], "phase" not in line
        if is_epoch:
            series.epochs.append(update)
            _add_rates(series, update, line.get("lr"))
        elif line["phase"] == "train":
            continue  # running means of an unfinished epoch
        for name, value in line.items():
            if is_metric_name(name):
                phase = next((each for each in phases if name.startswith(f"{each}_")), "")
                metric = name.removeprefix(f"{phase}_")
                curve = series.metrics.setdefault(metric, {}).setdefault(phase, Curve())
                _add(curve, update, float(value))
    return series


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a file of the callback ``metrics_jsonl``."""
    with open(path, encoding="utf-8", opener=opener) as file:
        for line in file:
            with suppress(json.JSONDecodeError):  # of a line that was cut off
                yield json.loads(line)


def _add_rates(series: Series, update: int, lr: float | list[float] | None) -> None:
    rates = lr if isinstance(lr, list) else [] if lr is None else [lr]
    series.rates.extend(Curve() for _ in rates[len(series.rates) :])
    for curve, rate in zip(series.rates, rates, strict=False):
        _add(curve, update, float(rate))


def _add(curve: Curve, update: int, value: float) -> None:
    if curve.updates and curve.updates[-1] == update:  # a validation at the end of an epoch has two lines
        curve.values.pop()
        curve.updates.pop()
    curve.updates.append(update)
    curve.values.append(value if math.isfinite(value) else math.nan)
