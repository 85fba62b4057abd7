"""Metrics, by class and by name."""

from __future__ import annotations

from argus.metrics.categorical_accuracy import CategoricalAccuracy
from argus.metrics.loss import Loss
from argus.metrics.metric import Metric, attach_metrics

__all__ = ["CategoricalAccuracy", "Loss", "Metric", "attach_metrics"]
