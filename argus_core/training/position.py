"""How far a run is: everything besides the model that it needs to go on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from argus_core.callbacks.audience import Missed, named
from argus_core.callbacks.epoch_report import is_metric_name
from argus_core.callbacks.state import AbstractEngine
from argus_core.metrics.metric import Metric
from argus_core.steps.output import PastOutput
from argus_core.storage.mismatch import fitting
from argus_core.storage.stored import COUNT
from argus_core.tensors.rng import check_random_state, is_seed

__all__ = ["is_progress", "restore", "snapshot"]

_EVENTS = ("epoch_start", "iteration_start", "iteration_complete", "epoch_complete")  # of the loop
_COUNTERS = ("epoch", "updates_in_epoch", "global_step", "updates_skipped")


def snapshot(
    engine: AbstractEngine,
    *,
    metrics: Iterable[Metric],
    missed: Missed | None,
    order: str | None,
    random_state: dict[str, Any],
) -> dict[str, Any]:
    """Return how far the run of ``engine`` is, as plain data and tensors.

    ``missed`` are the callbacks that have not heard yet of the event that is on. What the callbacks keep is
    what they have counted so far.
    """
    state = engine.state
    return {
        "counters": {
            "epoch": state.epoch,
            "updates_in_epoch": engine.updates_done,
            "skipped_in_epoch": engine.skipped_in_epoch,
            "epoch_begun": engine.epoch_begun,
            "epoch_done": engine.epoch_done,
            "global_step": state.global_step,
            "updates_skipped": state.updates_skipped,
        },
        "missed": {"event": missed.event, "callbacks": list(missed.callbacks)} if missed else {},
        "stepped": bool(getattr(state.step_output, "stepped", True)),
        "device": state.model.device.type,
        "loader": {
            "seed": engine.seed,
            "batches": engine.num_batches,
            "window": engine.window_size,
            "order": order,
        },
        "metrics": {name: float(value) for name, value in state.metrics.items()},
        "running": {metric.name: metric.state_dict() for metric in metrics},
        "callback": {name: kept for name, callback in _named(engine) if (kept := _callback_state(callback))},
        "rng": random_state,
    }


def is_progress(progress: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint's record has the form that `snapshot` gives it, whoever wrote the file."""
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
        and COUNT.holds(counters.get("skipped_in_epoch", 0))
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


def restore(engine: AbstractEngine, metrics: Iterable[Metric], progress: Mapping[str, Any]) -> Missed | None:
    """Put the counters, metrics and callbacks of ``engine`` where they were; random numbers follow later.

    Returns who has still to hear of the event that was on.

    Raises:
        StateMismatchError: a callback, a metric or a generator cannot take its state.
    """
    check_random_state(progress["rng"])
    state, counters = engine.state, progress["counters"]
    state.epoch = counters["epoch"]
    state.global_step = counters["global_step"]
    state.updates_skipped = counters["updates_skipped"]
    state.metrics.update(progress["metrics"])
    engine.updates_done, engine.epoch_done = counters["updates_in_epoch"], counters["epoch_done"]
    engine.skipped_in_epoch = counters.get("skipped_in_epoch", 0)
    engine.epoch_begun = not engine.epoch_done and counters.get("epoch_begun", engine.updates_done > 0)
    state.step_output = PastOutput(progress.get("stepped", True))
    for metric in metrics:
        if metric.name in progress["running"]:
            _load("metric", metric.name, metric, progress["running"][metric.name])
    stored = progress["callback"]
    for name, callback in _named(engine):
        if name in stored:
            _load("callback", name, callback, stored[name])
        elif _callback_state(callback):
            state.logger.warning("callback %s is not in the checkpoint and begins anew", name)
    missed = progress.get("missed")
    return Missed(missed["event"], tuple(missed["callbacks"])) if missed else None


def _named(engine: AbstractEngine) -> Iterator[tuple[str, Any]]:
    """Yield the callbacks with names that tell them apart; ``val/progress`` is one of another phase."""
    yield from named(engine.callbacks)
    for phase, state in engine.state.phase_states.items():
        if state.engine is not engine:
            yield from ((f"{phase}/{name}", callback) for name, callback in named(state.engine.callbacks))


def _callback_state(callback: Any) -> dict[str, Any]:
    state_dict = getattr(callback, "state_dict", None)
    state: dict[str, Any] = state_dict() if callable(state_dict) else {}
    return state


def _load(kind: str, name: str, part: Any, stored: Mapping[str, Any]) -> None:
    with fitting(f"{kind} {name}", f"leave the {kind} out, or use the version that it was saved with"):
        part.load_state_dict(dict(stored))
