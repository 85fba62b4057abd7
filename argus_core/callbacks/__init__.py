"""Callbacks: objects whose methods are called at a run's events (`argus_core.callbacks.hooks.RunHooks`)."""

from __future__ import annotations

from argus_core.callbacks.callback import (
    Callback,
    FunctionCallback,
    on_catch_exception,
    on_complete,
    on_epoch_complete,
    on_epoch_start,
    on_event,
    on_iteration_complete,
    on_iteration_start,
    on_start,
)
from argus_core.callbacks.checkpoints import Checkpoint
from argus_core.callbacks.csv_log import LoggingToCSV
from argus_core.callbacks.early_stopping import EarlyStopping
from argus_core.callbacks.logs import LoggingToFile, MetricsJSONL
from argus_core.callbacks.monitor_checkpoint import MonitorCheckpoint
from argus_core.callbacks.progress import Progress

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "FunctionCallback",
    "LoggingToCSV",
    "LoggingToFile",
    "MetricsJSONL",
    "MonitorCheckpoint",
    "Progress",
    "on_catch_exception",
    "on_complete",
    "on_epoch_complete",
    "on_epoch_start",
    "on_event",
    "on_iteration_complete",
    "on_iteration_start",
    "on_start",
]
