"""The abstract callback, and decorators that turn functions into callbacks."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, ClassVar

from argus_core.callbacks.state import State
from argus_core.errors import BuildError, near
from argus_core.hooks import PROJECT

__all__ = [
    "Callback",
    "FunctionCallback",
    "on_catch_exception",
    "on_complete",
    "on_epoch_complete",
    "on_epoch_start",
    "on_event",
    "on_iteration_complete",
    "on_iteration_start",
    "on_start",
]

Function = Callable[["State"], Any]

_NEAR = 0.75  # 'epoch_completed' is taken for an event, 'save' is not

# What other frameworks call an event, without the prefix ``on_`` where that alone says what is meant.
_ELSEWHERE = {
    **dict.fromkeys(("fit_start", "train_start", "train_begin"), "start"),
    **dict.fromkeys(("fit_end", "train_end"), "complete"),
    **dict.fromkeys(("train_epoch_start", "epoch_begin"), "epoch_start"),
    **dict.fromkeys(("train_epoch_end", "epoch_end"), "epoch_complete"),
    **dict.fromkeys(
        ("train_batch_start", "train_batch_begin", "batch_start", "batch_begin", "step_begin"),
        "iteration_start",
    ),
    **dict.fromkeys(("train_batch_end", "batch_end", "step_end"), "iteration_complete"),
    **dict.fromkeys(("validation_epoch_start", "validation_begin", "test_begin"), "validation_start"),
    **dict.fromkeys(("validation_epoch_end", "validation_end", "test_end"), "validation_complete"),
    "on_exception": "catch_exception",
    "on_save_checkpoint": "checkpoint_saved",
}


class Callback:
    """Abstract callback: a subclass has methods named after events, each taking the run's state.

    A method marked with ``@hookimpl(tryfirst=True)`` is called before the other callbacks' methods for that
    event, one marked ``@hookimpl(trylast=True)`` after them. A callback with events of its own lists classes
    of ``@hookspec`` methods in ``hookspecs`` and raises them with ``state.engine.raise_event(name)``.

    >>> class PrintLoss(Callback):
    ...     def epoch_complete(self, state):
    ...         print(state.epoch, state.metrics["train_loss"])
    """

    hookspecs: tuple[type, ...] = ()
    run_paths: ClassVar[Mapping[str, str]] = {}  # where in a run directory: for paths that are left out
    # After all others, the late ones included: `checkpoint` has 2, as its files hold the others' state.
    runs_last: int = False
    # In a run of several processes, only the first has it: it writes, and takes no part in the run itself.
    first_process_only: bool = False
    # Whether it may read predictions or targets of a step output; a subclass says False for itself.
    reads_predictions: bool = True
    # The names of the values that it puts into state.metrics: ("val_f1",), or () for none. With None it
    # does not say. A subclass says it for itself.
    computes: Collection[str] | None = None

    @property
    def name(self) -> str:
        """The name in messages, and the key of its state in a checkpoint."""
        return type(self).__name__

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs, as plain data."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""

    def check_events(self, events: Collection[str]) -> None:
        """Check that methods named like events are events and take the state.

        Raises:
            BuildError: a method's name is nearly an event's, or an event's method takes other arguments.
        """
        methods = dict(_methods(self))
        for method_name, method in methods.items():
            if method_name in events:
                _check_arguments(f"callback {self.name}:", method_name, method, named="state")
            else:
                _check_spelling(self.name, method_name, methods, events)


class FunctionCallback(Callback):
    """Calls a function at one event; ``on_epoch_complete`` and the other decorators make it.

    Args:
        event: a built-in event, or one that another callback declares.
        function: called with the state.
    """

    def __init__(self, event: str, function: Function) -> None:
        self.event = event
        self.function = function
        if not callable(function):
            raise BuildError(f"on_{event} decorates {function!r}; give it a function that takes the state")
        _check_arguments("function", self.name, function)
        setattr(self, event, self.__call__)  # the event's argument has one name, state

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def __call__(self, state: State) -> Any:
        """Call the function itself."""
        return self.function(state)

    def __repr__(self) -> str:
        return f"<on_{self.event} {self.name}>"

    def check_events(self, events: Collection[str]) -> None:
        """Check that this run has the event.

        Raises:
            BuildError: it is not.
        """
        if self.event not in events:
            raise BuildError(
                f"function {self.name!r} handles {self.event!r}, which is not an event of this run"
                f"{near(self.event, events)}; add the callback whose hookspecs declare it"
            )


def on_event(event: str) -> Callable[[Function], FunctionCallback]:
    """Return a decorator that turns a function into a callback for ``event``, built-in or a plugin's.

    >>> @on_event("validation_start")
    ... def announce(state):
    ...     state.logger.info("validating")
    """
    return lambda function: FunctionCallback(event, function)


def on_start(function: Function) -> FunctionCallback:
    """Call the function when a run begins."""
    return FunctionCallback("start", function)


def on_complete(function: Function) -> FunctionCallback:
    """Call the function when a run is over."""
    return FunctionCallback("complete", function)


def on_epoch_start(function: Function) -> FunctionCallback:
    """Call the function when an epoch begins."""
    return FunctionCallback("epoch_start", function)


def on_epoch_complete(function: Function) -> FunctionCallback:
    """Call the function when an epoch ends, validation included."""
    return FunctionCallback("epoch_complete", function)


def on_iteration_start(function: Function) -> FunctionCallback:
    """Call the function before each update."""
    return FunctionCallback("iteration_start", function)


def on_iteration_complete(function: Function) -> FunctionCallback:
    """Call the function after each update."""
    return FunctionCallback("iteration_complete", function)


def on_catch_exception(function: Function) -> FunctionCallback:
    """Call the function when ``state.exception`` ends a run."""
    return FunctionCallback("catch_exception", function)


def _methods(callback: Callback) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield a callback's public methods, except those that every callback has."""
    for name in dir(callback):
        if name.startswith("_") or hasattr(Callback, name):
            continue
        if isinstance(inspect.getattr_static(callback, name), property):  # may not be there before the run
            continue
        value = getattr(callback, name)
        if inspect.isroutine(value):
            yield name, value


def _check_arguments(owner: str, name: str, method: Callable[..., Any], named: str | None = None) -> None:
    """Check that a method accepts the state as its only argument, under the name ``named`` if given."""
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):  # some built-in functions have none; the call itself will tell
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise _wrong_arguments(owner, name, signature) from error
    first = next(iter(signature.parameters.values()))
    if named not in (None, first.name) and first.kind is not first.VAR_POSITIONAL:
        raise _wrong_arguments(owner, name, signature)


def _wrong_arguments(owner: str, name: str, signature: inspect.Signature) -> BuildError:
    return BuildError(
        f"{owner} {name}{signature} cannot handle an event, which passes one argument; write {name}(state)"
    )


def _is_meant_as_event(method: Callable[..., Any]) -> bool:
    if hasattr(method, f"{PROJECT}_impl"):
        return True
    try:
        parameters = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):
        return False
    return [parameter.name for parameter in parameters if parameter.default is parameter.empty] == ["state"]


def _check_spelling(
    owner: str, name: str, methods: Mapping[str, Callable[..., Any]], events: Collection[str]
) -> None:
    own, is_meant = name.removeprefix("on_"), _is_meant_as_event(methods[name])
    meant: list[str] = []
    if is_meant or own != name:
        event = own if own in events else _ELSEWHERE.get(name, _ELSEWHERE.get(own))
        meant = [event] if event and event in events and event not in methods else []
    if not meant and is_meant:
        meant = difflib.get_close_matches(name, events, n=1, cutoff=_NEAR)
    if meant:
        raise BuildError(
            f"callback {owner} has a method {name!r}, which is not an event; did you mean {meant[0]!r}?"
        )
    if hasattr(methods[name], f"{PROJECT}_impl"):
        raise BuildError(
            f"callback {owner} marks {name!r} with hookimpl, and it is not an event; events are "
            f"{', '.join(sorted(events))}"
        )
