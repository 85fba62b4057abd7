"""The loop of argus_core, with handlers that can be attached at any time, and events of the user."""

from __future__ import annotations

import reprlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import argus_core
from argus.errors import CallbackTypeError, LoaderTypeError

__all__ = ["Engine", "EventEnum", "Events", "State"]

StepMethod = Callable[[Any, Any], Any]
Handler = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class EventEnum(Enum):
    """Abstract set of events, for subclasses with further events.

    A callback listens to an event by a method with the value of the event as its name.
    """


class Events(EventEnum):
    """The events of every run."""

    START = "start"
    COMPLETE = "complete"
    EPOCH_START = "epoch_start"
    EPOCH_COMPLETE = "epoch_complete"
    ITERATION_START = "iteration_start"
    ITERATION_COMPLETE = "iteration_complete"
    CATCH_EXCEPTION = "catch_exception"


class State(argus_core.State):
    """The state of a run, for callbacks and steps; any attribute can be added.

    Args:
        step_method: a method of a model; its name without ``_step`` is the phase.
        engine: the engine that runs the method.
        phase_states: the states of all phases of this run by phase, ``None`` if an engine runs alone.
        **kwargs: further attributes.

    Attributes:
        step_method: see above.
        data_loader: the batches of the engine.
    """

    def __init__(
        self,
        step_method: StepMethod,
        engine: Engine | None = None,
        phase_states: dict[str, State] | None = None,
        **kwargs: Any,
    ) -> None:
        model, phase = _model_and_phase(step_method)
        super().__init__(model, engine, phase)  # type: ignore[arg-type]
        self.step_method = step_method
        self.data_loader: Any = None
        self.iteration = 0
        self.stopped = True  # until an engine runs
        self.phase_states = phase_states  # type: ignore[assignment]
        self.update(**kwargs)

    def update(self, **kwargs: Any) -> None:
        """Set attributes."""
        vars(self).update(kwargs)


class Engine(argus_core.Engine):
    """Runs a model's step over a loader and calls the handlers of each event, in the order of attaching.

    Args:
        step_method: a method of a model that takes a batch and the state.
        phase_states: the states of all phases of this run by phase; the engine adds its state.
        **kwargs: further attributes of the state.

    Attributes:
        state: see `State`.
        step_method: see above.
        event_handlers: for each event the handlers, with the arguments that each gets after the state.
    """

    state: State

    def __init__(
        self, step_method: StepMethod, phase_states: dict[str, State] | None = None, **kwargs: Any
    ) -> None:
        model, phase = _model_and_phase(step_method)
        super().__init__(step_method, model, phase, callbacks=[_Relay(self)])
        self.state = State(step_method, self, phase_states, **kwargs)
        if phase_states is not None:
            phase_states[self.state.phase] = self.state
        self.step_method = step_method
        self.event_handlers: dict[EventEnum, list[Handler]] = defaultdict(list)

    def add_event_handler(
        self, event: EventEnum, handler: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        """Call ``handler`` with the state, ``args`` and ``kwargs`` at each ``event``.

        Raises:
            CallbackTypeError: ``event`` is not a member of an `EventEnum`.
        """
        self.event_handlers[_checked(event)].append((handler, args, kwargs))

    def raise_event(self, event: EventEnum | str) -> None:
        """Call the handlers of an event; events of argus_core are strings."""
        if isinstance(event, str):
            super().raise_event(event)
            return
        for handler, args, kwargs in self.event_handlers.get(_checked(event), ()):
            handler(self.state, *args, **kwargs)

    def run(  # type: ignore[override]
        self, data_loader: Iterable[Any], start_epoch: int = 0, end_epoch: int = 1
    ) -> State:
        """Run the epochs ``start_epoch`` to ``end_epoch - 1`` over ``data_loader``; return the last state."""
        self.state.data_loader = data_loader
        if not hasattr(data_loader, "__iter__") and not hasattr(data_loader, "__getitem__"):
            raise LoaderTypeError(
                f"the {self.state.phase} loader is {reprlib.repr(data_loader)}; give an iterable of batches, "
                "such as a torch.utils.data.DataLoader"
            )
        super().run(data_loader, end_epoch, start_epoch)
        self.state.stopped = True
        return self.state


class _Relay(argus_core.Callback):
    """Forwards the events of argus_core's loop, with the counters of pytorch-argus."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._has_run = False

    def start(self, state: State) -> None:
        self._has_run = False
        state.iteration = 0
        self.engine.raise_event(Events.START)

    def epoch_start(self, state: State) -> None:
        self._has_run = True
        state.iteration = 0
        state.metrics = {}
        self.engine.raise_event(Events.EPOCH_START)

    def iteration_start(self, state: State) -> None:
        state.step_output = None
        self.engine.raise_event(Events.ITERATION_START)

    def iteration_complete(self, state: State) -> None:
        self.engine.raise_event(Events.ITERATION_COMPLETE)

    def epoch_complete(self, state: State) -> None:
        if not state.stopped:
            state.iteration += 1  # their number
        state.batch = state.step_output = None
        self.engine.raise_event(Events.EPOCH_COMPLETE)

    def complete(self, state: State) -> None:
        state.epoch += self._has_run  # their number
        self.engine.raise_event(Events.COMPLETE)

    def catch_exception(self, state: State) -> None:
        state.logger.error("%s", state.exception, exc_info=state.exception)
        self.engine.raise_event(Events.CATCH_EXCEPTION)


def _model_and_phase(step_method: StepMethod) -> tuple[Any, str]:
    model = getattr(step_method, "__self__", None)
    if not isinstance(model, argus_core.Model):
        raise CallbackTypeError(
            f"step_method is {step_method!r}, which is not a method of a model; give one such as "
            "model.train_step"
        )
    name: str = step_method.__name__
    return model, name.removesuffix("_step")


def _checked(event: object) -> EventEnum:
    if not isinstance(event, EventEnum):
        raise CallbackTypeError(
            f"event is {event!r}; give a member of argus.engine.Events or of an EventEnum of your own"
        )
    return event
