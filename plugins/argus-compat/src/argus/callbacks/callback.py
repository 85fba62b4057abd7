"""Callbacks, and decorators that turn functions into callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import argus_core
from argus.engine.engine import Engine, EventEnum, Events
from argus.errors import CallbackTypeError
from argus.utils import inheritors
from argus_core.authors import build_many

__all__ = [
    "Callback",
    "FunctionCallback",
    "attach_callbacks",
    "on_catch_exception",
    "on_complete",
    "on_epoch_complete",
    "on_epoch_start",
    "on_event",
    "on_iteration_complete",
    "on_iteration_start",
    "on_start",
]

Function = Callable[[Any], Any]


class Callback:
    """Abstract callback: a subclass has methods named after events, each taking the state.

    The events are those of `argus.engine.Events` and of every other subclass of `argus.engine.EventEnum`.
    """

    def attach(self, engine: Engine) -> None:
        """Call the methods at the events of ``engine``.

        Raises:
            CallbackTypeError: an attribute with the name of an event is not callable.
        """
        _attach(self, engine)


class FunctionCallback(Callback):
    """Calls a function at one event.

    Args:
        event: the event.
        handler: called with the state.
    """

    def __init__(self, event: EventEnum, handler: Callable[..., Any]) -> None:
        self.event = event
        self.handler = handler

    def attach(self, engine: Engine, *args: Any, **kwargs: Any) -> None:
        """Call the function with the state, ``args`` and ``kwargs`` at its event of ``engine``."""
        engine.add_event_handler(self.event, self.handler, *args, **kwargs)


def attach_callbacks(engine: Engine, callbacks: Iterable[Any] | None) -> None:
    """Attach callbacks to an engine, in order: of this package, of argus_core, or by name.

    Raises:
        CallbackTypeError: a value is not a callback.
    """
    for callback in build_many("callback", callbacks, "callbacks"):
        if isinstance(callback, Callback):
            callback.attach(engine)
        elif isinstance(callback, argus_core.Callback):
            _attach(callback, engine)
        else:
            raise CallbackTypeError(
                f"callbacks has {callback!r}, which is not an argus.callbacks.Callback; give an instance of "
                "a subclass"
            )


def on_event(event: EventEnum) -> Callable[[Function], FunctionCallback]:
    """Return a decorator that makes a function a callback for ``event``."""
    return lambda func: FunctionCallback(event, func)


def on_start(func: Function) -> FunctionCallback:
    """Call the function when a run begins."""
    return FunctionCallback(Events.START, func)


def on_complete(func: Function) -> FunctionCallback:
    """Call the function when a run ends."""
    return FunctionCallback(Events.COMPLETE, func)


def on_epoch_start(func: Function) -> FunctionCallback:
    """Call the function when an epoch begins."""
    return FunctionCallback(Events.EPOCH_START, func)


def on_epoch_complete(func: Function) -> FunctionCallback:
    """Call the function when an epoch ends."""
    return FunctionCallback(Events.EPOCH_COMPLETE, func)


def on_iteration_start(func: Function) -> FunctionCallback:
    """Call the function before each step."""
    return FunctionCallback(Events.ITERATION_START, func)


def on_iteration_complete(func: Function) -> FunctionCallback:
    """Call the function after each step."""
    return FunctionCallback(Events.ITERATION_COMPLETE, func)


def on_catch_exception(func: Function) -> FunctionCallback:
    """Call the function when ``state.exception`` ends a run."""
    return FunctionCallback(Events.CATCH_EXCEPTION, func)


def _attach(callback: Any, engine: Engine) -> None:
    for event in _events():
        method = getattr(callback, event.value, None)
        if method is None:
            continue
        if not callable(method):
            raise CallbackTypeError(
                f"{type(callback).__name__}.{event.value} is {method!r}, which {event} cannot call; make it "
                "a method that takes the state, or give it another name"
            )
        engine.add_event_handler(event, method)


def _events() -> list[EventEnum]:
    """Return all events, those of `Events` first."""
    others = sorted(inheritors(EventEnum) - {Events}, key=lambda each: (each.__module__, each.__qualname__))
    enums: list[type[EventEnum]] = [Events, *others]
    return [event for events in enums for event in events if isinstance(event.value, str)]
