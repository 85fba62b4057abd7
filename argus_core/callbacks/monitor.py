"""The monitored metric of a run: its existence, its direction and its best value."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar

from argus_core.callbacks.asking import ask_for_validation, called
from argus_core.callbacks.state import State, validation_phases
from argus_core.errors import BuildError, ParamsError, near
from argus_core.registry.registry import names
from argus_core.storage.stored import BEST, BEST_EPOCH, MONITOR, Rule

__all__ = ["Monitor", "NewValues", "check_monitor", "monitored_value"]


class Monitor:
    """Compares a metric's values with the best so far.

    Args:
        callback: who monitors, for messages.
        metric: a name among a run's metrics, ``val_loss``.
        better: ``"min"``, ``"max"``, or ``"auto"`` to ask the metric; a name that ends in ``loss`` means
            ``"min"``.

    Attributes:
        best: the best value so far, or ``None``.
        epoch: that it is of, counting from 0.
    """

    state_rules: ClassVar[Mapping[str, Rule]] = {"monitor": MONITOR, "best": BEST, "best_epoch": BEST_EPOCH}

    def __init__(self, callback: str, metric: str, better: str = "auto") -> None:
        if not isinstance(metric, str) or not metric:
            raise ParamsError(
                f"monitor of {callback} is {metric!r}; give the name of a metric, such as 'val_loss'"
            )
        if better not in ("auto", "min", "max"):
            raise ParamsError(f"better of {callback} is {better!r}; give 'auto', 'min' or 'max'")
        self.callback = callback
        self.metric = metric
        self.better = better
        self.best: float | None = None
        self.epoch: int | None = None
        self.new = NewValues(metric)
        self._direction: str | None = None if better == "auto" else better

    def forget(self) -> None:
        """Reset the best value."""
        self.best = self.epoch = None

    def state_dict(self) -> dict[str, Any]:
        """Return the metric, its best value and the epoch of that value."""
        return {"monitor": self.metric, "best": self.best, "best_epoch": self.epoch}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the state that `state_dict` returned; the best value of another metric is ignored."""
        self.forget()
        if state_dict.get("monitor", self.metric) == self.metric:
            self.best, self.epoch = state_dict.get("best"), state_dict.get("best_epoch")

    def start(self, state: State) -> None:
        """Determine whether higher or lower is better, and check that the metric will be computed.

        Raises:
            BuildError: it will not be, or no metric says whether higher or lower is better.
        """
        check_monitor(self.callback, self.metric, state)
        self.new = NewValues(self.metric)
        self._direction = self.better if self.better != "auto" else _direction(self.metric, state)
        if self._direction is None and _computes(state, self.metric):
            raise BuildError(
                f"{self.callback} monitors {self.metric!r}, whose metric does not declare a direction; "
                "set better='min' or 'max'"
            )
        if self._direction is None:
            computed = _planned(state)
            raise BuildError(
                f"{self.callback} monitors {self.metric!r}, which is not a metric of this run"
                f"{near(self.metric, computed)}; if a callback computes it, set better='min' or 'max' "
                f"({_shown(computed)})"
            )

    def improved(self, state: State) -> bool:
        """Return whether the newest value is the best so far; a value that is not finite never is.

        Raises:
            BuildError: there is no value.
        """
        value = monitored_value(self.callback, self.metric, state)
        if not math.isfinite(value) or (self.best is not None and not self._is_better(value, self.best)):
            return False
        self.best, self.epoch = value, state.epoch
        return True

    def _is_better(self, value: float, best: float) -> bool:
        return value > best if self._direction == "max" else value < best


class NewValues:
    """Tells a metric's new values from those that a callback has seen.

    Args:
        metric: a name among a run's metrics; one that begins with ``val_`` follows the validations.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self._seen: int | None = None

    def at_epoch(self, state: State) -> bool:
        """Return whether the end of an epoch has a value that was not seen."""
        if state.validated_at is None or not self.metric.startswith("val_"):
            return True
        is_new = state.is_measured(self.metric) and state.validated_at != self._seen
        self._seen = state.validated_at
        return is_new

    def midway(self, state: State) -> bool:
        """Return whether ``state.midway`` is of a validation, whose values the metric follows."""
        is_of_validation = state.midway is not None and state.midway.phase == "val"
        return is_of_validation and self.metric.startswith("val_") and self.at_epoch(state)


def check_monitor(callback: str, metric: str, state: State) -> None:
    """Check, when a run starts, that ``metric`` may be computed.

    Raises:
        BuildError: no metric of the run has that name, and all callbacks and steps declare what they compute.
    """
    declared, all_declare = _declared(state)
    if _computes(state, metric) or metric in state.metrics or metric in declared:
        return
    if all_declare:
        raise _nobody_computes(callback, metric, [*_planned(state), *declared], state)


def monitored_value(callback: str, metric: str, state: State) -> float:
    """Return the newest value of ``metric``.

    Raises:
        BuildError: there is none.
    """
    try:
        return float(state.metrics[metric])
    except KeyError:
        raise _nobody_computes(callback, metric, state.metrics, state) from None


def _planned(state: State) -> list[str]:
    """Return the names of the metrics that this run's engines compute."""
    return [name for name, _ in _metrics(state)]


def _metrics(state: State) -> Iterable[tuple[str, Any]]:
    for phase, phase_state in _phases(state).items():
        for metric in phase_state.engine.metrics:
            yield f"{phase}_{metric.name}", metric


def _phases(state: State) -> dict[str, State]:
    return state.phase_states or {state.phase: state}  # of an engine of argus-compat there may be none


def _computes(state: State, name: str) -> list[Any]:
    """Return the metrics that compute, or may compute, a value of that name."""
    return [
        metric
        for planned, metric in _metrics(state)
        if planned == name or (metric.several and name.startswith(f"{planned}_"))
    ]


def _direction(name: str, state: State) -> str | None:
    better = next((metric.better for metric in _computes(state, name)), None)
    return better or ("min" if name.endswith("loss") else None)


def _declared(state: State) -> tuple[list[str], bool]:
    """Return the values that steps and callbacks declare to compute, and whether all of them declare it."""
    engines = [phase_state.engine for phase_state in _phases(state).values()]
    said = [_said(writer) for engine in engines for writer in (engine.step, *engine.callbacks)]
    known = [values for values in said if values is not None]
    return [name for values in known for name in values], len(known) == len(said)


def _said(writer: Any) -> Collection[str] | None:
    """Return the values that a callback or a step itself declares, not its base class or what it wraps."""
    own = (getattr(writer, "__dict__", {}), vars(type(writer)))
    if hasattr(writer, "__wrapped__") or not any("computes" in each for each in own):
        return None
    values: Collection[str] | None = writer.computes
    if isinstance(values, str):
        name = getattr(writer, "name", type(writer).__name__)
        raise BuildError(
            f"computes of {name} is {values!r}; it must be a tuple of names, such as ({values!r},)"
        )
    return values


def _of_sets(metric: str, state: State) -> list[str]:
    """Return the values that the validation sets compute of a metric that is named without one."""
    phases = validation_phases(state)
    if "val" in phases or not metric.startswith("val_"):
        return []
    return [name for phase in phases if _computes(state, name := f"{phase}_{metric.removeprefix('val_')}")]


def _nobody_computes(callback: str, metric: str, computed: Iterable[str], state: State) -> BuildError:
    if metric.startswith("val_") and not validation_phases(state):
        return BuildError(
            f"monitor of {callback} is {metric!r}, and the run has no validation; {ask_for_validation()}, "
            f"choose another monitor, or let a callback compute it ({_shown(computed)})"
        )
    if sets := _of_sets(metric, state):
        return BuildError(
            f"{callback} monitors {metric!r}, and the run's validation sets have names; choose "
            f"{' or '.join(map(repr, sets))}"
        )
    phases = sorted(state.phase_states or (), key=len, reverse=True)
    own = next((metric[len(phase) + 1 :] for phase in phases if metric.startswith(f"{phase}_")), metric)
    start = f"{callback} monitors {metric!r}, which is not computed"
    if any(own == each.name for _, each in _metrics(state)):
        action = f"; set {called('metrics_on_train')}" if metric.startswith("train_") else ""
        return BuildError(f"{start}{near(metric, computed)} ({_shown(computed)}{action})")
    if own in names("metric"):
        action = f"; add {own!r} to {called('metrics')}"
    else:
        action = near(metric, computed) or f"; add a metric that computes it to {called('metrics')}"
    return BuildError(f"{start}{action} ({_shown(computed)})")


def _shown(computed: Iterable[str]) -> str:
    return f"computed: {', '.join(computed) or 'nothing'}"
