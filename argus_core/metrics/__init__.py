"""Metrics: the abstract `Metric`, and the built-in metrics."""

from __future__ import annotations

from argus_core.metrics.builtin import MAE, MSE, Accuracy, Loss, TopKAccuracy
from argus_core.metrics.metric import MeanMetric, Metric, Reduction

__all__ = ["MAE", "MSE", "Accuracy", "Loss", "MeanMetric", "Metric", "Reduction", "TopKAccuracy"]
