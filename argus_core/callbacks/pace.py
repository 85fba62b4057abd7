"""The pace of a run: its steps done and to do, its rate, and the time left."""

from __future__ import annotations

import time

from argus_core.callbacks.state import State, validation_phases

__all__ = ["Pace"]


class Pace:
    """The progress, rate and remaining time of a run.

    An update and a batch of the validation are a step each, so the bar moves in both and never back.

    Attributes:
        validated: finished batches of the current epoch's validation.
    """

    def __init__(self) -> None:
        self._run_began = self._epoch_began = time.monotonic()
        self._updates = 0  # in an epoch
        self._steps: int | None = None  # in an epoch
        self._first_step = 0
        self._first_update = 0  # of this process, in the current epoch
        self._seconds_before = 0.0  # of the run, before this process
        self.validated = 0

    def begin_run(self, state: State) -> None:
        """Count the steps of an epoch, and those of the epochs before a resumed one."""
        engine = state.engine
        validations = [state.phase_states[phase].engine for phase in validation_phases(state)]
        if engine.num_batches is not None:
            self._steps = self._updates = -(-engine.num_batches // engine.window_size)
            if state.validated_at is None:
                self._steps += sum(each.num_batches or 0 for each in validations if each is not engine)
            done = engine.position.done  # the epoch that a resumed run was saved in
            self._first_step = (state.epoch + 1) * self._steps if done else self._step(state, self._steps)
        self._first_update = engine.position.updates_done
        self._seconds_before = engine.seconds - (time.monotonic() - self._run_began)

    def begin_epoch(self, state: State) -> None:
        """Measure the rate of the epoch alone."""
        self._epoch_began = time.monotonic()
        self._first_update = self.validated = 0

    def progress(self, state: State, now: float) -> tuple[float, float | None]:
        """Return what this process has done, and the total: in steps, or in seconds where time ends the run.

        The run ends at the first of its bounds, which is the one of which more is done.
        """
        done, total = self._steps_done(state)
        if state.engine.max_seconds is None:
            return done, total
        most = max(state.engine.max_seconds - self._seconds_before, 0.0)
        seconds = min(now - self._run_began, most)
        is_later = total is None or done * most <= seconds * total
        return (seconds, most) if is_later else (done, total)

    def _steps_done(self, state: State) -> tuple[int, int | None]:
        """Return the steps done by this process, and their total where it is known."""
        if self._steps is None:
            return state.engine.position.updates_done, None
        done = self._step(state, self._steps) - self._first_step
        num_epochs, num_updates = state.engine.num_epochs, state.engine.num_updates
        totals = [] if num_epochs is None else [num_epochs * self._steps]
        if num_updates is not None and self._updates:
            epochs, updates = divmod(num_updates, self._updates)
            validation = self._steps - self._updates if updates else 0  # of the last epoch
            totals.append(epochs * self._steps + updates + validation)
        return done, min(totals) - self._first_step if totals else None

    def status(self, state: State, now: float) -> str:
        """Return the rate and the time left, or nothing before the first update."""
        done, total = self.progress(state, now)
        updates = state.engine.position.updates_done - self._first_update
        if done <= 0 or updates <= 0:
            return ""
        rate = "" if self.validated else f"{updates / max(now - self._epoch_began, 1e-9):.1f} updates/s  "
        if total is None:
            return rate
        return f"{rate}{_clock((now - self._run_began) / done * (total - done))} left  "

    def _step(self, state: State, steps: int) -> int:
        return state.epoch * steps + state.engine.position.updates_done + self.validated


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"
