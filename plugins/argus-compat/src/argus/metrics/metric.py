"""Metrics, and whether higher or lower is better for a monitored metric."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import Any, Literal

import torch

import argus_core
from argus.callbacks.callback import Callback
from argus.engine.engine import Engine, Events
from argus.errors import BetterError, CallbackTypeError, MetricNotFoundError, also
from argus_core import ArgusError, ArgusWarning, SpecError, UnknownNameError
from argus_core.authors import build_many

__all__ = ["Metric", "attach_metrics", "check_better", "init_better", "known_better"]


class Metric(argus_core.Metric, Callback):
    """Abstract metric: a subclass has ``name`` and ``better``, and overrides reset, update and compute.

    It is also a callback: its handlers can be overridden to add several values to ``state.metrics``. A
    subclass is registered in this process by its name, so that ``metrics=["its_name"]`` finds it, except with
    ``registered=False``.

    Attributes:
        name: the name; a run's metrics have ``train_f1`` and ``val_f1`` for ``"f1"``.
        better: ``"min"`` or ``"max"``.
    """

    name: str = ""
    better: Literal["max", "min"] = "min"

    def __init_subclass__(cls, registered: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.name and registered:
            _register(cls)

    def reset(self) -> None:
        """Forget all updates."""

    def update(self, step_output: Mapping[str, Any]) -> None:
        """Update with a step output."""

    def compute(self) -> Any:
        """Return the value over all updates since the reset."""

    def epoch_start(self, state: argus_core.State) -> None:
        """Reset."""
        self.reset()

    def iteration_complete(self, state: argus_core.State) -> None:
        """Update."""
        self.update(state.step_output)

    def epoch_complete(self, state: argus_core.State) -> None:
        """Compute the value, and add it to the state's metrics."""
        _compute(state, self)


def attach_metrics(engine: Engine, metrics: Iterable[Any] | None) -> None:
    """Attach metrics to an engine, in order: of this package, of argus_core, or by name.

    Raises:
        CallbackTypeError: a value is not a metric.
    """
    with also(ValueError):
        chosen = build_many("metric", metrics, "metrics")
    for metric in chosen:
        if isinstance(metric, Metric):
            metric.attach(engine)
        elif isinstance(metric, argus_core.Metric):
            engine.add_event_handler(Events.EPOCH_START, lambda state, metric=metric: metric.reset())
            engine.add_event_handler(
                Events.ITERATION_COMPLETE, lambda state, metric=metric: metric.update(state.step_output)
            )
            engine.add_event_handler(Events.EPOCH_COMPLETE, _compute, metric)
        else:
            raise CallbackTypeError(
                f"metrics has {metric!r}, which is not an argus.metrics.Metric; give a name or an instance "
                "of a subclass"
            )


def check_better(better: str) -> str:
    """Return ``better``.

    Raises:
        BetterError: it is another value.
    """
    if better not in ("auto", "min", "max"):
        raise BetterError(f"better is {better!r}; give 'auto', 'min' or 'max'")
    return better


def init_better(better: str, monitor: str) -> tuple[str, Callable[[float, float], bool], float]:
    """Return whether higher or lower is better, the comparison of values, and the worst value.

    Args:
        better: ``"min"``, ``"max"``, or ``"auto"`` to ask the metric.
        monitor: the metric's name after the phase's: ``val_loss``.

    Raises:
        BetterError: ``better`` is another value.
        MetricNotFoundError: no metric has the name.
    """
    if check_better(better) == "auto":
        better = _direction(monitor)
    return ("max", operator.gt, -inf) if better == "max" else ("min", operator.lt, inf)


def known_better(
    better: str, monitor: str
) -> tuple[str, Callable[[float, float], bool] | None, float | None]:
    """Return the result of `init_better`, or only ``better`` if no metric has the name yet."""
    try:
        return init_better(better, monitor)
    except MetricNotFoundError:
        return better, None, None


def _direction(monitor: str) -> str:
    if monitor.endswith("loss"):
        return "min"
    _, _, name = monitor.partition("_")
    try:
        metric = argus_core.resolve("metric", name).load()
    except (UnknownNameError, SpecError) as error:
        raise MetricNotFoundError(
            f"whether higher or lower is better for {monitor!r} is unknown; define or import its metric, or "
            f"give better='min' or 'max' ({error})"
        ) from error
    return getattr(metric, "better", "min")


def _compute(state: argus_core.State, metric: argus_core.Metric) -> None:
    """Add a metric's value to the state without joining processes, since one may validate alone."""
    name = f"{state.phase}_{metric.name}"
    with torch.no_grad():
        value: Any = metric.compute()
    if metric.several and isinstance(value, Mapping):
        state.metrics.update({f"{name}_{key}": each for key, each in value.items()})
    else:
        state.metrics[name] = value


def _register(cls: type[Metric]) -> None:
    """Register a metric class by its name; the newest class of a name replaces the others."""
    try:
        before = argus_core.resolve("metric", cls.name).target
    except ArgusError:  # the name is unknown, or several plugins have it
        before = ""
    try:
        argus_core.register("metric", cls.name, cls, override=bool(before))
    except SpecError:  # a name with spaces cannot be looked up, but instances of the class work
        return
    if before:
        warnings.warn(
            f"metric {cls.name!r} was {before} and is {cls.__module__}:{cls.__qualname__} now; give one of "
            "them another name",
            ArgusWarning,
            stacklevel=4,  # past `ABCMeta.__new__`
        )
