"""Errors of argus_core that are also of the types that scripts for pytorch-argus catch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from argus_core import (
    ArgusError,
    BuildError,
    CheckpointError,
    MissingPluginError,
    ParamsError,
    SpecError,
)

__all__ = [
    "BetterError",
    "CallbackTypeError",
    "CheckpointNotFoundError",
    "LearningRateError",
    "LoaderTypeError",
    "MetricNotFoundError",
    "ModelNotFoundError",
    "MonitorError",
    "NoStepsError",
    "NotReadyError",
    "also",
]


class ModelNotFoundError(MissingPluginError, ImportError):
    """A checkpoint names a model class that is neither defined nor imported."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """The checkpoint does not exist."""


class NotReadyError(BuildError, AttributeError):
    """The model lacks a part that the call needs."""


class LearningRateError(SpecError, ValueError):
    """A value is not a learning rate, or the number of rates is not that of the parameter groups."""


class CallbackTypeError(BuildError, TypeError):
    """A value is not a callback, event or step method."""


class BetterError(ParamsError, ValueError):
    """The better direction of a monitored metric is neither given nor known."""


class LoaderTypeError(ParamsError, TypeError):
    """A loader is not an iterable of batches."""


class MonitorError(ParamsError, ValueError):
    """The name of a monitored metric does not contain its phase."""


class MetricNotFoundError(BetterError, ImportError):
    """No metric has the name of a monitored metric."""


class NoStepsError(ArgusError, RuntimeError):
    """A metric has no value, since it has no updates."""


@contextmanager
def also(*kinds: type[Exception]) -> Iterator[None]:
    """Give errors of argus_core in the ``with`` block one of these types too.

    Errors of checkpoints, and errors that have one of these types already, do not change.
    """
    try:
        yield
    except ArgusError as error:
        if isinstance(error, (CheckpointError, AttributeError, ImportError, *kinds)):
            raise
        kind = _joined(type(error), kinds)
        joined = kind.__new__(kind, *error.args)  # independent of the arguments of its __init__
        vars(joined).update(vars(error))
        raise joined.with_traceback(error.__traceback__) from error.__cause__


def _joined(error: type[ArgusError], kinds: tuple[type[Exception], ...]) -> type[ArgusError]:
    """Return a subclass of all types, with the name and the text of the error; ``KeyError`` shows a repr."""
    return type(
        error.__name__, (error, *kinds), {"__module__": error.__module__, "__str__": Exception.__str__}
    )
