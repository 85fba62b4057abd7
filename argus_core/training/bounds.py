"""The bounds of a run, in epochs, updates and time; it ends at the first one that it reaches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argus_core.callbacks.asking import ask_to_resume_with, called
from argus_core.callbacks.cadence import is_time, parse_cadence
from argus_core.callbacks.callback import Callback
from argus_core.callbacks.state import AbstractEngine, State
from argus_core.errors import ArgusError, ParamsError
from argus_core.files.working_folder import shown
from argus_core.hooks import hookimpl
from argus_core.registry.factory import described
from argus_core.tensors.clock import shared_time

__all__ = ["Bounds", "RunBounds", "read_bounds", "warn_if_complete"]

_MOST = 2**31 - 1
_MOST_IDLE = 1000  # updates without one that moves the weights, in whole epochs


@dataclass(frozen=True)
class Bounds:
    """The bounds of a run; ``None`` where there is none.

    Attributes:
        num_epochs: in all, before and after the run is resumed.
        num_updates: that move the weights, in all.
        max_time: as it was given.
    """

    num_epochs: int | None
    num_updates: int | None = None
    max_time: str | None = None

    @property
    def seconds(self) -> float | None:
        """The time of the run."""
        return None if self.max_time is None else 60 * parse_cadence("fit", self.max_time, "max_time").count


def read_bounds(num_epochs: Any, num_updates: Any, max_time: Any) -> Bounds:
    """Return the bounds of a run; without any it is one epoch long.

    Raises:
        ParamsError: one is invalid.
    """
    for name, value in (("num_epochs", num_epochs), ("num_updates", num_updates)):
        if value is not None and (type(value) is not int or not 1 <= value <= _MOST):
            raise ParamsError(f"{called(name)} is {described(value)}; give an integer from 1 to 2**31 - 1")
    if max_time is not None and not is_time(max_time):
        raise ParamsError(
            f"{called('max_time')} is {described(max_time)}; give minutes or hours, such as '90min' or '3h'"
        )
    is_open = num_epochs is None and num_updates is None and max_time is None
    return Bounds(1 if is_open else num_epochs, num_updates, max_time)


class RunBounds(Callback):
    """Ends a run that has reached its number of updates or its time, after the current update."""

    reads_predictions = False
    computes = ()

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._updates = bounds.num_updates
        self._deadline: float | None = None
        self._idle = 0

    @classmethod
    def of(cls, bounds: Bounds) -> list[RunBounds]:
        """Return the callback that a run with these bounds needs, if any: it costs time in each update."""
        return [] if bounds.num_updates is None and bounds.max_time is None else [cls(bounds)]

    def start(self, state: State) -> None:
        """Begin to measure time; a resumed run may have reached a bound already."""
        seconds, position = self.bounds.seconds, state.engine.position
        self._deadline = None if seconds is None else shared_time() + seconds - state.engine.seconds
        if position.done or not position.trained:  # else the end of the epoch comes first
            self._check(state)

    def iteration_complete(self, state: State) -> None:
        self._check(state)

    def epoch_complete(self, state: State) -> None:
        self._check(state)
        position = state.engine.position
        self._idle = self._idle + position.skipped if position.skipped == position.updates_done else 0
        if self._idle >= _MOST_IDLE and self._deadline is None and self.bounds.num_epochs is None:
            raise ArgusError(
                f"the last {self._idle} updates were all skipped, so num_updates={self._updates} is not "
                "reached; look for nan and inf in the data, or lower the learning rate"
            )

    @hookimpl(tryfirst=True)
    def complete(self, state: State) -> None:
        """Say that the epochs were the first bound, where there are others."""
        if not state.stopped and state.stop_reason is None:
            self._say(state, f"num_epochs={self.bounds.num_epochs}")

    def _check(self, state: State) -> None:
        if state.stopped:
            return
        if self._updates is not None and state.global_step >= self._updates:
            self._stop(state, f"num_updates={self._updates}")
        elif self._deadline is not None and shared_time() >= self._deadline:
            self._stop(state, f"max_time={self.bounds.max_time}")

    def _stop(self, state: State, bound: str) -> None:
        state.stopped = state.is_complete = True
        self._say(state, bound)

    def _say(self, state: State, bound: str) -> None:
        updates = f"{state.global_step} update{'s' * (state.global_step != 1)}"
        state.stop_reason = f"{bound} ended the run after {updates}, in epoch {state.epoch + 1}"
        state.logger.info("%s", state.stop_reason)


def warn_if_complete(engine: AbstractEngine, bounds: Bounds, path: Path) -> None:
    """Log a warning if a resumed run has reached a bound already.

    Args:
        engine: of the run, which is restored.
        bounds: of the run.
        path: its checkpoint.
    """
    reached = next(_reached(engine, bounds), None)
    if reached is not None:
        count, action = reached
        engine.state.logger.warning(
            "the run of %s is complete (%s); to train longer, %s or more", shown(path), count, action
        )


def _reached(engine: AbstractEngine, bounds: Bounds) -> Iterator[tuple[str, str]]:
    """Yield the bounds that a run has reached, and how to resume it."""
    epochs, updates = engine.state.epoch + engine.position.done, engine.state.global_step
    counts = {"num_epochs": (epochs, bounds.num_epochs), "num_updates": (updates, bounds.num_updates)}
    for name, (done, bound) in counts.items():
        if bound is not None and done >= bound:
            what = f"{done} of {done} {name.removeprefix('num_')}"
            what += "" if done == bound else f", and {name} is {bound}"
            yield what, ask_to_resume_with(name, done + 1)
    if bounds.seconds is not None and engine.seconds >= bounds.seconds:
        minutes = f"{engine.seconds / 60:.1f} of {bounds.seconds / 60:.1f} minutes"
        yield minutes, ask_to_resume_with("max_time", f"{int(engine.seconds / 60) + 1}min")
