"""The values of all metrics of an epoch, by their names among a run's metrics."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from argus_core.errors import BuildError, ConflictError

if TYPE_CHECKING:
    from argus_core.metrics import Metric

__all__ = ["compute_all"]


def compute_all(metrics: Iterable[Metric], phase: str) -> dict[str, float]:
    """Return the values of metrics: ``val_accuracy``, and ``val_curve_recall`` of one that has several.

    Raises:
        BuildError: a metric computes something else than numbers.
        ConflictError: two metrics give a value of one name.
    """
    values: dict[str, float] = {}
    for metric in metrics:
        for name, value in _named(metric):
            if f"{phase}_{name}" in values:
                raise ConflictError(
                    f"metric {metric.name!r} computed a value {name!r}, which is another metric's name; give "
                    "one of them another name"
                )
            values[f"{phase}_{name}"] = _number(metric, value)
    return values


def _named(metric: Metric) -> Iterator[tuple[str, Any]]:
    value: Any = metric.compute()
    if metric.several and isinstance(value, Mapping):
        for key, each in value.items():
            yield f"{metric.name}_{key}", each
    else:
        yield metric.name, value


def _number(metric: Metric, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        action = "return a float from compute()"
        if isinstance(value, Mapping):
            action = "set several = True for values by name"
        raise BuildError(
            f"metric {metric.name!r} computed {reprlib.repr(value)}, which is no number; {action}"
        ) from error
