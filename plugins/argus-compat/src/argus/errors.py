"""Errors of argus_core that are also of the types which scripts for pytorch-argus catch."""

from __future__ import annotations

from argus_core.errors import BuildError, CheckpointError, MissingPluginError, ParamsError, SpecError

__all__ = [
    "BetterError",
    "CallbackTypeError",
    "CheckpointNotFoundError",
    "LearningRateError",
    "ModelNotFoundError",
    "NotReadyError",
]


class ModelNotFoundError(MissingPluginError, ImportError):
    """A checkpoint names a model class that has been neither defined nor imported."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """There is no such checkpoint."""


class NotReadyError(BuildError, AttributeError):
    """The model lacks a part that is needed now."""


class LearningRateError(SpecError, ValueError):
    """What was given is no learning rate, or not one for each parameter group."""


class CallbackTypeError(BuildError, TypeError):
    """Something is no callback, event or step method."""


class BetterError(ParamsError, ValueError):
    """Which way a monitored metric gets better was not said, and nobody knows it."""
