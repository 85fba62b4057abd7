"""Callbacks, by class."""

from __future__ import annotations

from argus.callbacks.callback import (
    Callback,
    FunctionCallback,
    attach_callbacks,
    on_catch_exception,
    on_complete,
    on_epoch_complete,
    on_epoch_start,
    on_event,
    on_iteration_complete,
    on_iteration_start,
    on_start,
)
from argus.callbacks.checkpoints import Checkpoint, MonitorCheckpoint
from argus.callbacks.early_stopping import EarlyStopping
from argus.callbacks.logging import LoggingToCSV, LoggingToFile
from argus.callbacks.lr_schedulers import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LRScheduler,
    MultiplicativeLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

__all__ = [
    "Callback",
    "Checkpoint",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "EarlyStopping",
    "ExponentialLR",
    "FunctionCallback",
    "LRScheduler",
    "LambdaLR",
    "LoggingToCSV",
    "LoggingToFile",
    "MonitorCheckpoint",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "StepLR",
    "attach_callbacks",
    "on_catch_exception",
    "on_complete",
    "on_epoch_complete",
    "on_epoch_start",
    "on_event",
    "on_iteration_complete",
    "on_iteration_start",
    "on_start",
]
