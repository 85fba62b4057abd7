"""The loop over batches: no other module iterates over a loader to train or validate.

::

    start
    for each epoch
        epoch_start
        for each window of loader batches
            iteration_start ─► step ─► metrics ─► (update_skipped) ─► iteration_complete
        compute metrics
        epoch_complete          validation first, then callbacks, then the late ones
    complete
"""

from __future__ import annotations

import copy
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from argus_core.abstract_model import AbstractModel
from argus_core.callbacks.audience import Handler, handlers_of, named
from argus_core.callbacks.state import AbstractEngine, Position, State
from argus_core.data.order import can_skip, epoch_batches, loader_length
from argus_core.errors import ArgusError, BuildError, near
from argus_core.metrics.metric import Metric
from argus_core.metrics.values import epoch_values
from argus_core.steps.reading import Reading, is_output_released, reads_predictions
from argus_core.tensors.clock import shared_time
from argus_core.tensors.rng import random_state, set_random_state
from argus_core.training.company import Alone, company_of
from argus_core.training.exception_note import add_note
from argus_core.training.interruption import Interruption, interrupting, until_interrupted
from argus_core.training.position import optimizer_options, snapshot
from argus_core.training.windows import check_loader, check_window_size

__all__ = ["Engine"]

Step = Callable[[Any, State], Any]


class Engine(AbstractEngine):
    """Runs a step over a loader and calls callbacks at the events of the run.

    Args:
        step: called with a batch (or `Window`) and the state; returns the step output.
        model: given to callbacks as ``state.model``.
        phase: ``"train"`` or ``"val"``, the prefix of the metrics' names.
        window_size: how many loader batches one step gets.
        callbacks: objects with methods named after events.
        metrics: updated with each step output, computed at the end of each epoch.
    """

    def __init__(
        self,
        step: Step,
        model: AbstractModel,
        phase: str = "train",
        *,
        window_size: int = 1,
        callbacks: Iterable[Any] = (),
        metrics: Iterable[Metric] = (),
    ) -> None:
        check_window_size(window_size)
        self.step = step
        self.window_size = window_size
        self.callbacks: tuple[Any, ...] = tuple(callbacks)
        self.metrics: tuple[Metric, ...] = tuple(metrics)
        self.state = State(model, self, phase)
        self.num_epochs: int | None = 0
        self.read_first: Callable[[Any], Any] | None = None  # passes on the first batch of an epoch
        self.num_batches: int | None = None
        self.seed = 0
        self.run_id = secrets.token_hex(16)  # in all checkpoints of the run, before and after it is resumed
        self.times_resumed = 0
        self._limit: int | None = None  # of the steps of an epoch
        self.seconds_before = 0.0  # of the run, in earlier processes
        self._began = shared_time()
        self.position = Position()
        self.handlers = handlers_of(self.callbacks)
        is_kept = not is_output_released(step)  # by a step of the user's own, perhaps
        self.reading = Reading(self.metrics, is_kept or reads_predictions(self.callbacks))
        keeps_state = any(getattr(each, "optimizer_state", False) for each in self.callbacks)
        self._keeps_positions = phase == "train" and keeps_state
        self._snapshot: dict[str, Any] | None = None  # for checkpoints, if not the current one
        self._before_end: tuple[dict[str, Any], list[dict[str, Any]]] | None = None
        self._unheard: Iterator[Handler] = iter(())  # those that are still to handle the newest update
        self._random_state: dict[str, Any] | None = None
        self._loader: Iterable[Any] = ()
        self._company = Alone()

    def raise_event(self, event: str) -> None:
        """Call the callbacks' handlers of ``event``, a built-in event or one that a callback declares."""
        try:
            handlers = self.handlers[event]
        except KeyError:
            known = sorted(self.handlers)
            raise BuildError(
                f"no event {event!r}{near(event, known)}; declare it in the hookspecs of a callback "
                f"({len(known)} known: {', '.join(known)})"
            ) from None
        for handler in handlers:
            handler(self.state)

    def snapshot(self) -> dict[str, Any]:
        """Return the position of the run and the state of its metrics, callbacks and generators.

        A checkpoint stores it, and a run resumes from it. It is always a position between two events: of a
        run that a callback stops in the middle of an epoch, the one where it stops; of a run that fails at
        the end of an epoch, the one before that end.
        """
        if self._snapshot is not None:
            return self._snapshot
        kept = random_state() if self._random_state is None else self._random_state
        return snapshot(self, self._loader, kept)

    @property
    def is_resumed(self) -> bool:
        """True after the run has been restored, until a batch is read."""
        return self._random_state is not None

    @property
    def seconds(self) -> float:
        """The time that the run has taken, in earlier processes too."""
        return self.seconds_before + shared_time() - self._began

    def hold_position(self) -> None:
        """Let checkpoints hold the present position, whatever the rest of this run does."""
        if self._keeps_positions:
            self._snapshot = copy.deepcopy(self.snapshot())

    @contextmanager
    def kept_position(self) -> Iterator[None]:
        """Let checkpoints hold the position before the block if the block fails."""
        if self._keeps_positions:
            self._before_end = copy.deepcopy((self.snapshot(), optimizer_options(self.state.model)))
        yield
        self._before_end = None

    def limit_to(self, steps: int | None, loader: Iterable[Any]) -> None:
        """Let epochs have at most so many steps, and count the batches of one."""
        self._limit, length = steps, loader_length(loader)
        most = None if steps is None else steps * self.window_size
        self.num_batches = min((each for each in (most, length) if each is not None), default=None)

    def resume_at(self, random_state: dict[str, Any]) -> None:
        """Let the next `run` continue from the position to which the run has been restored.

        Args:
            random_state: set just before the first batch, since the start of a run may draw numbers.
        """
        self._random_state = random_state

    def run(self, loader: Iterable[Any], num_epochs: int | None = 1, start_epoch: int = 0) -> State:
        """Run the epochs ``start_epoch`` to ``num_epochs - 1`` over ``loader``; return the last state.

        ``None``: without a bound.

        Raises:
            ArgusError: the loader gives no batches.
        """
        state = self.state
        check_loader(loader, state.phase)
        state.stopped = state.is_complete = False
        state.stop_reason = state.exception = state.midway = None
        self._snapshot, self._before_end, self._unheard = None, None, iter(())
        self.num_epochs, self._began, self._loader = num_epochs, shared_time(), loader
        self._company = company_of(state, loader)
        self.limit_to(self._limit, loader)
        process = os.getpid()
        if not self.is_resumed:
            state.epoch, self.position = start_epoch, Position()
        try:
            self.raise_event("start")
            if self.is_resumed:
                self.raise_event("resumed")
                start_epoch = state.epoch + self.position.done
            for epoch in count(start_epoch) if num_epochs is None else range(start_epoch, num_epochs):
                if state.stopped:
                    break
                if self.position.done:
                    self.position = Position()
                state.epoch = epoch
                self._run_epoch(loader)
            self._set_random_state()
            self.raise_event("complete")
        except BaseException as error:
            if os.getpid() == process:  # else it is a callback's fork, which is not the run
                self._fail(error)
            raise
        return state

    def _fail(self, error: BaseException) -> None:
        """Bring the run to a position between two events, and call the callbacks that handle exceptions."""
        state = self.state
        state.exception = error
        self.reading.undo_parts()
        if state.phase == "train":  # a validation is repeated as a whole
            self._call_all(self._unheard, "iteration_complete")
        if self._before_end is not None:
            self._snapshot, options = self._before_end
            for group, before in zip(state.model.optimizer.param_groups, options, strict=False):
                group.update(before)
        if isinstance(error, Interruption):
            self.raise_event("interrupted")
        add_note(error, state)
        self._call_all(self.handlers["catch_exception"], "catch_exception")

    def _call_all(self, handlers: Iterable[Handler], event: str) -> None:
        """Call handlers though the run has failed: its own exception matters more than theirs."""
        for handler in handlers:
            try:
                handler(self.state)
            except Exception:
                self.state.logger.exception("a callback failed in %s: %s", event, handler)

    def _set_random_state(self) -> None:
        if self._random_state is not None:
            set_random_state(self._random_state)
            self._random_state = None

    def _run_epoch(self, loader: Iterable[Any]) -> None:
        """Run an epoch, or the rest of one that an earlier process has begun."""
        state, position = self.state, self.position
        if not position.begun:
            for metric in self.metrics:
                metric.reset()
            self.raise_event("epoch_start")
            position.begun = True
        state.iteration = position.updates_done - 1
        if not position.trained:
            self._run_iterations(loader)
            if state.iteration < 0:
                again = "; a generator gives them once, so make it a list or a DataLoader" * (state.epoch > 0)
                raise ArgusError(
                    f"the {state.phase} loader gave no batches; give it data, or drop drop_last{again}"
                )
            is_whole = not self._stopped_midway()
            if not is_whole:  # a run that resumes trains the rest of the epoch
                self.hold_position()
            state.metrics.update(epoch_values(self.metrics, state))
            position.trained = is_whole
        self._set_random_state()
        self._end_epoch()

    def _stopped_midway(self) -> bool:
        """Return whether the run has stopped before the end of an epoch, as far as that is known."""
        done, length = self.position.updates_done * self.window_size, self.num_batches
        if length is None or done >= length + self.window_size:  # a run that resumes finds out how many more
            return self.state.stopped and can_skip(self._loader)
        return self.state.stopped and done < length

    def _end_epoch(self) -> None:
        """Raise ``epoch_complete``; if it fails, checkpoints hold the position before it."""
        unheard, handlers = self.position.unheard, self.handlers
        with self.kept_position():
            self.position.done = True  # those that write checkpoints are called last
            if unheard is not None:
                handlers = handlers_of([each for name, each in named(self.callbacks) if name in unheard])
            for handler in handlers["epoch_complete"]:
                handler(self.state)
        self._company.end_epoch(self.state)

    def _run_iterations(self, loader: Iterable[Any]) -> None:
        state, step, position = self.state, self.step, self.position
        is_announced, after = self.handlers["iteration_start"], self.handlers["iteration_complete"]
        through = self._company.reading(self.reading.begin())
        with interrupting():  # workers start here
            batches = epoch_batches(loader, state.epoch, position.updates_done * self.window_size)
        batches = until_interrupted(batches, self.read_first)
        self._set_random_state()
        left = None if self._limit is None else max(self._limit - position.updates_done, 0)
        for state.batch in self._company.windows(batches, self.window_size, left):
            state.iteration += 1
            if is_announced:
                self.raise_event("iteration_start")
            state.step_output = output = None  # the next one needs the memory
            state.step_output = output = step(state.batch, state)
            # The weights have moved: whatever fails from here on, this update is not made again.
            position.updates_done += 1
            self._unheard = unheard = iter(after)
            if getattr(output, "stepped", True):
                state.global_step += 1
                for read in through:
                    read(output)
            else:
                state.updates_skipped += 1
                position.skipped += 1
                self.reading.skip(output)
                self.raise_event("update_skipped")
            for handler in unheard:
                handler(state)
            if self._company.ends(state):
                break
