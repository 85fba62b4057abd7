"""The loop: the one place in the project that goes through batches.

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
import math
import os
import reprlib
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from argus_core.abstract_model import AbstractModel
from argus_core.callbacks.audience import Audience, Missed, named
from argus_core.callbacks.state import AbstractEngine, State
from argus_core.data.order import OrderedLoader, epoch_batches, loader_length
from argus_core.errors import ArgusError, BuildError, ParamsError, near
from argus_core.metrics.metric import Metric
from argus_core.metrics.values import compute_all
from argus_core.steps.output import Window
from argus_core.steps.reading import Reading, is_let_go, reads_predictions
from argus_core.tensors.rng import random_state, set_random_state
from argus_core.training.exception_note import add_note
from argus_core.training.interruption import Interruption, check_interruption, interrupting, until_interrupted
from argus_core.training.position import snapshot

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
        if type(window_size) is not int or not 1 <= window_size <= sys.maxsize:
            raise BuildError(
                f"one update is to take {window_size!r} loader batches; make window_size 1 or more"
            )
        self.step = step
        self.window_size = window_size
        self.callbacks: tuple[Any, ...] = tuple(callbacks)
        self.metrics: tuple[Metric, ...] = tuple(metrics)
        self.state = State(model, self, phase)
        self.num_epochs = 0
        self.num_batches: int | None = None
        self.seed = 0
        self.run_id = secrets.token_hex(16)  # kept by the run's checkpoints, and by a run that resumes it
        self.times_resumed = 0  # that run
        self.updates_done = 0  # of this epoch, complete ones
        self.skipped_in_epoch = 0
        self.epoch_begun = False  # its epoch_start is over
        self.epoch_done = False  # it has had its last update
        self.stopped_midway = False
        self.has_begun = False  # all callbacks have started
        self.audience = Audience(self.callbacks)
        # A step of the user's own may keep its output for itself.
        self.reading = Reading(self.metrics, not is_let_go(step) or reads_predictions(self.callbacks))
        self._failed = False
        self._when_stopped: dict[str, Any] | None = None
        self._random_state: dict[str, Any] | None = None
        self._loader: Iterable[Any] = ()

    def raise_event(self, event: str) -> None:
        """Call the callbacks that listen to ``event``, a built-in one or one of a callback's own."""
        try:
            handlers = self.audience.handlers[event]
        except KeyError:
            known = sorted(self.audience.handlers)
            raise BuildError(
                f"no event {event!r}{near(event, known)}; declare it in the hookspecs of a callback "
                f"({len(known)} known: {', '.join(known)})"
            ) from None
        for handler in handlers:
            handler(self.state)

    def snapshot(self) -> dict[str, Any]:
        """Return how far the run is, as plain data and tensors, for a checkpoint to go on from.

        That is where the run goes on once the callback that asks for it has returned.
        """
        if self._when_stopped is not None:
            return self._when_stopped
        return snapshot(
            self,
            metrics=self.metrics,
            missed=self.audience.pending(self._failed),
            order=self._order(),
            random_state=random_state() if self._random_state is None else self._random_state,
        )

    def _order(self) -> str | None:
        """Return the fingerprint of the present epoch's order of batches, where there is one."""
        loader = self._loader
        return loader.fingerprint(self.state.epoch) if isinstance(loader, OrderedLoader) else None

    @property
    def is_updating(self) -> bool:
        """Whether an update is on, or an exception has ended it: the weights may be half-way."""
        return self.state.iteration == self.updates_done and self.audience.event is None

    @property
    def is_resumed(self) -> bool:
        """Whether the next `run` goes on where counters, metrics and callbacks have been put."""
        return self._random_state is not None

    def resume_at(self, random_state: dict[str, Any]) -> None:
        """Let the next `run` go on where counters, metrics and callbacks have been put.

        Args:
            random_state: of the moment; set when the batches of the first epoch are about to come, since
                the start of a run may draw numbers.
        """
        self._random_state = random_state

    def run(self, loader: Iterable[Any], num_epochs: int = 1, start_epoch: int = 0) -> State:
        """Run the epochs ``start_epoch`` to ``num_epochs - 1`` over ``loader``; return the last state.

        Raises:
            ArgusError: the loader gives no batches.
        """
        state = self.state
        _check_loader(loader, state.phase)
        state.stopped = self.stopped_midway = self._failed = self.has_begun = False
        state.stop_reason = None
        self._when_stopped = None
        self.num_epochs = num_epochs
        self._loader, self.num_batches = loader, loader_length(loader)
        is_resumed, process = self.is_resumed, os.getpid()
        if not is_resumed:
            state.epoch, self.epoch_begun, self.epoch_done = start_epoch, False, False
            self.updates_done = self.skipped_in_epoch = 0
        try:
            self.raise_event("start")
            if is_resumed:
                self.raise_event("resumed")
                self._catch_up()
                start_epoch = state.epoch + self.epoch_done
            self.has_begun = True
            for epoch in range(start_epoch, num_epochs):
                if state.stopped:
                    break
                state.epoch = epoch
                self._run_epoch(loader)
            self._set_random_state()
            self.raise_event("complete")
        except BaseException as error:
            if os.getpid() != process:  # a callback's fork, which is not the run
                raise
            self._failed = True
            self.reading.take_back()
            if isinstance(error, Interruption):
                self.raise_event("interrupted")
            state.exception = error
            add_note(error, state)
            self._show_exception()
            raise
        return state

    def _catch_up(self) -> None:
        """Tell of an update or epoch those who had not heard of it when the checkpoint was written.

        Of an update there is neither batch nor output any more, so only callbacks that can do without hear.
        """
        state, missed = self.state, self.audience.missed
        if missed is None or missed.event not in ("iteration_complete", "epoch_complete"):
            return
        self._set_random_state()
        state.iteration = self.updates_done - 1
        if missed.event == "iteration_complete":
            able = {name for name, each in named(self.callbacks) if getattr(each, "catches_up", False)}
            hearing = tuple(name for name in missed.callbacks if name in able)
            self.audience.missed = Missed(missed.event, hearing)
        self.audience.tell(missed.event, state)
        state.step_output = None
        self.epoch_begun = not self.epoch_done
        self._random_state = random_state()

    def _set_random_state(self) -> None:
        if self._random_state is not None:
            set_random_state(self._random_state)
            self._random_state = None

    def _show_exception(self) -> None:
        """Call all that listen to ``catch_exception``; the run's own exception matters more than theirs."""
        for handler in self.audience.handlers["catch_exception"]:
            try:
                handler(self.state)
            except Exception:
                self.state.logger.exception("a callback failed in catch_exception: %s", handler)

    def _run_epoch(self, loader: Iterable[Any]) -> None:
        """Run an epoch, or what is left of one that an earlier process has begun."""
        state = self.state
        if not self.epoch_begun:
            self.updates_done, self.skipped_in_epoch, self.epoch_done = 0, 0, False
            for metric in self.metrics:
                metric.reset()
            self.audience.tell("epoch_start", state)
            self.epoch_begun = True
        state.iteration = self.updates_done - 1
        self._run_iterations(loader)
        if state.iteration < 0:
            again = "; a generator gives them once, so make it a list or a DataLoader"
            raise ArgusError(
                f"the {state.phase} loader gave no batches; give it data, or drop drop_last"
                f"{again if state.epoch > 0 else ''}"
            )
        state.metrics.update(self._values())
        self.epoch_done = True
        self.audience.tell("epoch_complete", state)
        self.epoch_begun = False

    def _values(self) -> dict[str, float]:
        """Return the values of all metrics over the updates that were made."""
        state = self.state
        if self.skipped_in_epoch < self.updates_done:
            return compute_all(self.metrics, state.phase, state.model.device)
        state.logger.warning(
            "epoch %d: all %d updates were skipped, so the metrics of %s measure nothing and are nan",
            state.epoch + 1,
            self.updates_done,
            state.phase,
        )
        return {f"{state.phase}_{metric.name}": math.nan for metric in self.metrics}

    def _run_iterations(self, loader: Iterable[Any]) -> None:
        state, step, audience = self.state, self.step, self.audience
        is_announced, after = audience.handlers["iteration_start"], audience.handlers["iteration_complete"]
        through = self.reading.begin()
        with interrupting():  # workers start here
            batches = epoch_batches(loader, state.epoch, self.updates_done * self.window_size)
        batches = until_interrupted(batches)
        self._set_random_state()
        if not is_announced:
            audience.missed = None  # those who missed an iteration_start are no longer there
        for state.batch in _windows(batches, self.window_size):
            state.iteration += 1
            if is_announced:
                audience.tell("iteration_start", state)
            state.step_output = output = None  # the next one needs the memory
            state.step_output = output = step(state.batch, state)
            # The weights have moved: whatever fails from here on, this update is not made again.
            self.updates_done += 1
            audience.event, audience.heard = "iteration_complete", 0
            if getattr(output, "stepped", True):
                state.global_step += 1
                for count in through:
                    count(output)
            else:
                state.updates_skipped += 1
                self.skipped_in_epoch += 1
                self.reading.skip(output)
                self.raise_event("update_skipped")
            for handler in after:
                handler(state)
                audience.heard += 1
            audience.event = None
            check_interruption()
            if state.stopped:
                self._note_stop()
                break

    def _note_stop(self) -> None:
        """Keep where the run is, if it stops in the middle of an epoch.

        What follows takes the epoch for one that is over, as far as it came; a run that goes on does not. Of
        a loader without a length nobody knows where its middle is, and a stop is the end of its epoch.
        """
        consumed = self.updates_done * self.window_size
        self.stopped_midway = self.num_batches is not None and consumed < self.num_batches
        if self.stopped_midway and self.state.phase == "train":
            self._when_stopped = copy.deepcopy(self.snapshot())


def _windows(batches: Iterator[Any], size: int) -> Iterator[Any]:
    """Return batches in windows of ``size``; the last has what is left."""
    return batches if size == 1 else _grouped(batches, size)


def _grouped(batches: Iterator[Any], size: int) -> Iterator[Window]:
    while window := Window(islice(batches, size)):
        yield window


def _check_loader(loader: Any, phase: str) -> None:
    """Refuse what cannot be gone through; `iter` itself could start a loader's workers."""
    if not hasattr(loader, "__iter__") and not hasattr(loader, "__getitem__"):
        raise ParamsError(
            f"the {phase} loader is {reprlib.repr(loader)}; give an iterable of batches, such as a list or a "
            "torch.utils.data.DataLoader"
        )
