"""The metrics of a run, built from names, specs and instances."""

from __future__ import annotations

from typing import Any

from argus_core.callbacks.epoch_report import FIELDS
from argus_core.errors import ConflictError, ParamsError
from argus_core.metrics.builtin import Loss
from argus_core.metrics.metric import Metric
from argus_core.registry.factory import build_many, described

__all__ = ["build_metrics"]


def build_metrics(metrics: Any) -> list[Metric]:
    """Build the loss metric and the chosen metrics (names, specs or instances), in that order."""
    chosen: dict[str, Metric] = {"loss": Loss()}
    for metric in build_many("metric", metrics, "metrics"):
        if not isinstance(metric, Metric):
            raise ParamsError(f"metrics has {described(metric)}; give a name, a spec or an argus_core.Metric")
        if not isinstance(getattr(metric, "name", None), str):
            raise ParamsError(f"metric {type(metric).__name__} has no name; set name = '...' in its class")
        if metric.name in FIELDS:
            raise ConflictError(
                f"a metric is named {metric.name!r}, which is a field of every epoch's line; give it "
                "another name"
            )
        if metric.name == "loss" != getattr(type(metric), "name", None):
            raise ConflictError(
                f"{type(metric).__name__} is named 'loss', as the loss is; give it another name"
            )
        if metric.name in chosen and metric.name != "loss":
            raise ConflictError(f"two metrics are named {metric.name!r}; give one of them another name")
        chosen[metric.name] = metric
    return list(chosen.values())
