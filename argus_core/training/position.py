"""The position of a run in its checkpoints: written, checked, and restored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from argus_core.abstract_model import AbstractModel
from argus_core.callbacks.audience import named
from argus_core.callbacks.epoch_report import is_metric_name
from argus_core.callbacks.lr_schedule import LRSchedule
from argus_core.callbacks.state import AbstractEngine, Position
from argus_core.data.order import OrderedLoader, loader_length
from argus_core.data.streams import StreamLoader
from argus_core.metrics.metric import Metric
from argus_core.metrics.values import merged_states
from argus_core.storage.mismatch import fitting
from argus_core.storage.stored import COUNT, DURATION
from argus_core.tensors.processes import is_first
from argus_core.tensors.rng import is_seed

__all__ = [
    "is_progress",
    "optimizer_options",
    "position_in",
    "restore_callbacks",
    "restore_counters",
    "restore_metrics",
    "snapshot",
]

# The events of which a checkpoint of an earlier version may say which callbacks had not handled them.
_EVENTS = ("epoch_start", "iteration_start", "iteration_complete", "epoch_complete")
_COUNTERS = ("epoch", "updates_in_epoch", "global_step", "updates_skipped")


def snapshot(engine: AbstractEngine, loader: Iterable[Any], random_state: dict[str, Any]) -> dict[str, Any]:
    """Return the position of a run and the state of its metrics and callbacks, as plain data and tensors.

    Args:
        engine: of the run.
        loader: of its batches, whose order in this epoch is kept as a fingerprint.
        random_state: of the generators.
    """
    state, position = engine.state, engine.position
    order = None
    if isinstance(loader, OrderedLoader | StreamLoader):
        order = loader.fingerprint(state.epoch)
    metrics = () if position.trained else engine.metrics  # which the next epoch resets
    return {
        "counters": {
            "epoch": state.epoch,
            "updates_in_epoch": position.updates_done,
            "skipped_in_epoch": position.skipped,
            "epoch_begun": position.begun,
            "epoch_trained": position.trained,
            "epoch_done": position.done,
            "global_step": state.global_step,
            "updates_skipped": state.updates_skipped,
            "seconds": engine.seconds,
        },
        "device": state.model.device.type,
        "loader": {
            "seed": engine.seed,
            "batches": loader_length(loader),
            "window": engine.window_size,
            "order": order,
        },
        "metrics": {name: float(value) for name, value in state.metrics.items()},
        "running": merged_states(metrics, state.model),
        "callback": {name: kept for name, callback in _named(engine) if (kept := _callback_state(callback))},
        "rng": random_state,
    }


def optimizer_options(model: AbstractModel) -> list[dict[str, Any]]:
    """Return the options of each parameter group, such as the learning rate, which schedules set."""
    groups = [] if model.optimizer is None else model.optimizer.param_groups
    return [{name: value for name, value in group.items() if name != "params"} for group in groups]


def is_progress(progress: Mapping[str, Any]) -> bool:
    """Return whether a record has the form that `snapshot`, of this version or an earlier one, gives it."""
    sections = ("counters", "loader", "metrics", "running", "callback", "rng")
    if not all(isinstance(progress.get(section), dict) for section in sections):
        return False
    counters, loader = progress["counters"], progress["loader"]
    batches = loader.get("batches")
    return (
        all(map(COUNT.holds, (*map(counters.get, _COUNTERS), loader.get("window"))))
        and type(counters.get("epoch_done")) is bool
        and is_seed(loader.get("seed"))
        and (batches is None or COUNT.holds(batches))
        and isinstance(loader.get("order"), str | None)
        and isinstance(progress.get("device"), str)
        and type(counters.get("epoch_begun", False)) is bool
        and type(counters.get("epoch_trained", False)) is bool
        and COUNT.holds(counters.get("skipped_in_epoch", 0))
        and DURATION.holds(counters.get("seconds", 0.0))
        and type(progress.get("stepped", True)) is bool
        and _is_missed(progress.get("missed", {}))
        and all(
            is_metric_name(name) and isinstance(value, float) for name, value in progress["metrics"].items()
        )
        and all(
            isinstance(kept, dict) for kept in (*progress["running"].values(), *progress["callback"].values())
        )
    )


def _is_missed(missed: Any) -> bool:
    return missed == {} or (
        isinstance(missed, dict)
        and missed.get("event") in _EVENTS
        and isinstance(missed.get("callbacks"), list)
        and all(isinstance(name, str) for name in missed["callbacks"])
    )


def position_in(progress: Mapping[str, Any]) -> Position:
    """Return the position that a checkpoint records, also one of an earlier version."""
    counters, missed = progress["counters"], progress.get("missed") or {}
    is_half_heard = missed.get("event") == "epoch_complete"
    return Position(
        updates_done=counters["updates_in_epoch"],
        skipped=counters.get("skipped_in_epoch", 0),
        begun=counters.get("epoch_begun", counters["updates_in_epoch"] > 0),
        trained=counters.get("epoch_trained", counters["epoch_done"]),
        done=counters["epoch_done"] and not is_half_heard,
        unheard=frozenset(missed["callbacks"]) if is_half_heard else None,
    )


def restore_counters(engine: AbstractEngine, progress: Mapping[str, Any], position: Position) -> None:
    """Restore the position of a run, its counts of updates and the newest values of its metrics."""
    state, counters = engine.state, progress["counters"]
    engine.position = position
    state.epoch = counters["epoch"]
    state.global_step = counters["global_step"]
    state.updates_skipped = counters["updates_skipped"]
    state.metrics.update(progress["metrics"])


def restore_metrics(metrics: Iterable[Metric], progress: Mapping[str, Any]) -> None:
    """Restore the state that metrics have in the middle of an epoch.

    Raises:
        StateMismatchError: a metric cannot load its state.
    """
    for metric in metrics:
        if not is_first():  # the state is that of all processes, which the first has from here on
            metric.reset()
        elif metric.name in progress["running"]:
            _load("metric", metric.name, metric, progress["running"][metric.name])


def restore_callbacks(engine: AbstractEngine, progress: Mapping[str, Any]) -> None:
    """Restore the state of the callbacks, learning-rate schedules among them, each found by its name.

    Raises:
        StateMismatchError: a callback cannot load its state.
    """
    stored = progress["callback"]
    for name, callback in _named(engine):
        if name in stored:
            _load("callback", name, callback, stored[name])
        elif _callback_state(callback):
            engine.state.logger.warning("callback %s is not in the checkpoint and starts without state", name)
    missed = progress.get("missed") or {}
    if missed.get("event") == "iteration_complete" and progress.get("stepped", True):
        for name, callback in _named(engine):
            if name in missed["callbacks"] and isinstance(callback, LRSchedule):
                callback.iteration_complete(engine.state)


def _named(engine: AbstractEngine) -> Iterator[tuple[str, Any]]:
    """Yield the callbacks with unique names; ``val/progress`` is one of the validation phase."""
    yield from named(engine.callbacks)
    for phase, state in engine.state.phase_states.items():
        if state.engine is not engine:
            yield from ((f"{phase}/{name}", callback) for name, callback in named(state.engine.callbacks))


def _callback_state(callback: Any) -> dict[str, Any]:
    state_dict = getattr(callback, "state_dict", None)
    state: dict[str, Any] = state_dict() if callable(state_dict) else {}
    return state


def _load(kind: str, name: str, part: Any, stored: Mapping[str, Any]) -> None:
    with fitting(f"{kind} {name}", f"leave the {kind} out, or install the version that saved it"):
        part.load_state_dict(dict(stored))
