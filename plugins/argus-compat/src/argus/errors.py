"""Errors of argus_core that are also of the types which scripts for pytorch-argus catch."""

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


class LoaderTypeError(ParamsError, TypeError):
    """What was given to go through is no iterable of batches."""


class MonitorError(ParamsError, ValueError):
    """The name of a monitored metric does not say of which phase it is."""


class MetricNotFoundError(BetterError, ImportError):
    """No metric has the name whose direction is asked for."""


class NoStepsError(ArgusError, RuntimeError):
    """A metric has no value, since it has seen no steps."""


@contextmanager
def also(*kinds: type[Exception]) -> Iterator[None]:
    """Make an error of argus_core that is raised inside one of these types, too.

    What is wrong with a checkpoint stays what it is, and so does an error that is one of them already.
    """
    try:
        yield
    except ArgusError as error:
        if isinstance(error, (CheckpointError, AttributeError, ImportError, *kinds)):
            raise
        kind = _joined(type(error), kinds)
        joined = kind.__new__(kind, *error.args)  # whatever its __init__ takes
        vars(joined).update(vars(error))
        raise joined.with_traceback(error.__traceback__) from error.__cause__


def _joined(error: type[ArgusError], kinds: tuple[type[Exception], ...]) -> type[ArgusError]:
    """Return a subclass of all: under the error's name, and with its text where ``KeyError`` shows a repr."""
    return type(
        error.__name__, (error, *kinds), {"__module__": error.__module__, "__str__": Exception.__str__}
    )
