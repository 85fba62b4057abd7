"""The number of steps that a run's learning-rate schedules make, and whether they last for them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from argus_core.callbacks.lr_schedule import LRSchedule
from argus_core.callbacks.scheduler_state import steps_left
from argus_core.callbacks.state import AbstractEngine
from argus_core.errors import SpecError, StateMismatchError

__all__ = ["check_steps"]


def check_steps(engine: AbstractEngine) -> None:
    """Check before a run starts, or resumes, that its schedules last for all updates that it may make.

    Args:
        engine: of the run, with its bounds.

    Raises:
        SpecError: one ends before, or the number of its steps is not known.
        StateMismatchError: one ends before, as it follows the curve that a resumed run began with.
    """
    for schedule in (each for each in engine.callbacks if isinstance(each, LRSchedule)):
        left = steps_left(schedule.scheduler, schedule.built.falling)
        if left == math.inf:
            continue
        needed = min(_steps_of(schedule, engine), default=None)
        if needed is None:
            raise SpecError(
                f"lr_scheduler {schedule.name!r} has {left:g} steps, and the number of steps that the run "
                "makes is not known; give num_epochs or num_updates, and an interval that counts one of them"
            )
        if needed > left:
            _refuse(schedule, left, needed, engine)


def _steps_of(schedule: LRSchedule, engine: AbstractEngine) -> Iterator[int]:
    """Yield, for each bound of a run, the number of steps up to it; none where that is not known."""
    position, is_resumed = engine.position, engine.is_resumed
    begun = position.updates_done if is_resumed and not position.trained else 0
    first = engine.state.epoch + position.trained if is_resumed else 0
    step, unit, each = engine.state.global_step, schedule.due.cadence.unit, int(schedule.due.cadence.count)
    length = None if engine.num_batches is None else -(-engine.num_batches // engine.window_size)
    if engine.num_epochs is not None:
        epochs = engine.num_epochs - first
        if unit == "ep":
            yield (first + epochs) // each - first // each
        elif unit == "up":  # without a length, as many as it takes
            updates = 0 if length is None else epochs * length - begun
            yield (step + updates) // each - step // each
    if engine.num_updates is not None:
        updates = engine.num_updates - step
        if unit == "up":
            yield engine.num_updates // each - step // each
        elif unit == "ep" and length is not None:
            yield (first + (begun + updates) // length) // each - first // each


def _refuse(schedule: LRSchedule, left: float, needed: float, engine: AbstractEngine) -> None:
    """Raise an error for a schedule that ends before the run."""
    has = f"lr_scheduler {schedule.name!r} has {left:g} steps left, and the run makes up to {needed:g}"
    if schedule.built.falling:
        has += ", in which its rate would rise again"
    bound = "num_updates" if engine.num_epochs is None else "num_epochs"
    if engine.is_resumed:
        raise StateMismatchError(
            f"{has}; resume with fewer {bound}, as a schedule follows the curve it began with, or "
            "load the weights with load_model and start a new run with another schedule"
        )
    raise SpecError(f"{has}; give it {needed:g} total_steps, or fewer {bound}")
