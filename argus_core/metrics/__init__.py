"""Metrics: what is measured, and the built-in ones."""

from __future__ import annotations

from argus_core.metrics.builtin import MAE, MSE, Accuracy, Loss, TopKAccuracy
from argus_core.metrics.metric import MeanMetric, Metric, Reduction

__all__ = ["MAE", "MSE", "Accuracy", "Loss", "MeanMetric", "Metric", "Reduction", "TopKAccuracy"]
