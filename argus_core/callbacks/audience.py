"""Who listens to which event of a run, in which order, and who has heard of the present one."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pluggy

from argus_core.callbacks.hooks import RunHooks
from argus_core.callbacks.state import State
from argus_core.errors import BuildError
from argus_core.hooks import PROJECT
from argus_core.registry.factory import described

__all__ = ["Audience", "Handler", "Missed", "named"]

_ABSENT = object()

Handler = Callable[["State"], Any]


def named(callbacks: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield callbacks with names that tell them apart: the second of one name is ``name-2``."""
    seen: Counter[str] = Counter()
    for callback in callbacks:
        name = str(getattr(callback, "name", type(callback).__name__))
        seen[name] += 1
        yield (name if seen[name] == 1 else f"{name}-{seen[name]}"), callback


@dataclass(frozen=True)
class Missed:
    """An event that not all callbacks heard of before a checkpoint was written.

    Attributes:
        event: one that the loop raises.
        callbacks: the names of those that are still to hear of it.
    """

    event: str
    callbacks: tuple[str, ...]


class Audience:
    """Tells callbacks of the events of a run, and knows at every moment who has heard of the present one.

    Args:
        callbacks: objects with methods named after events.

    Attributes:
        handlers: the bound methods to call for each event.
        missed: what a run that goes on tells those who missed it, and nobody else, when the event comes.
        event: the event of the loop that is on; ``None`` between two.
        heard: how many of its handlers have returned. The loop sets both itself where microseconds count.
    """

    def __init__(self, callbacks: Sequence[Any]) -> None:
        names = {id(callback): name for name, callback in named(callbacks)}
        listeners = _listeners(callbacks)
        self.handlers: dict[str, tuple[Handler, ...]] = {
            event: tuple(implementation.function for implementation in implementations)
            for event, implementations in listeners.items()
        }
        self.missed: Missed | None = None
        self._names = {
            event: tuple(names[id(implementation.plugin)] for implementation in implementations)
            for event, implementations in listeners.items()
        }
        self.event: str | None = None
        self.heard = 0

    def tell(self, event: str, state: State) -> None:
        """Call all that listen to an event of the loop, one after the other."""
        self.event, self.heard = event, 0
        due = None
        if self.missed is not None:
            if self.missed.event == event:
                due = self.missed.callbacks
            self.missed = None
        for handler in self.handlers[event]:
            if due is None or self._names[event][self.heard] in due:
                handler(state)
            self.heard += 1
        self.event = None

    def pending(self, failed: bool) -> Missed | None:
        """Return who is still to hear of the present event.

        Args:
            failed: whether the callback that is being told has raised an exception, and counts.
        """
        if self.missed is not None or self.event is None:
            return self.missed
        names = self._names[self.event][self.heard + (not failed) :]
        return Missed(self.event, names) if names else None


def _listeners(callbacks: Sequence[Any]) -> dict[str, list[pluggy.HookImpl]]:
    """Return who implements each event: early ones, those in the listed order, late ones."""
    manager = _CallbackManager(PROJECT)
    manager.add_hookspecs(RunHooks)
    for callback in callbacks:
        for hookspecs in getattr(callback, "hookspecs", ()):
            manager.add_hookspecs(hookspecs)
    for callback in callbacks:
        manager.register_callback(callback)
    position = {id(callback): index for index, callback in enumerate(callbacks)}
    return {
        event: sorted(
            caller.get_hookimpls(),
            key=lambda implementation: (
                bool(implementation.trylast) - bool(implementation.tryfirst),
                getattr(implementation.plugin, "runs_last", False),
                position[id(implementation.plugin)],
            ),
        )
        for event, caller in vars(manager.hook).items()
        if not event.startswith("_")
    }


class _CallbackManager(pluggy.PluginManager):
    """Takes a callback's methods named after events for hook implementations, marked or not."""

    def register_callback(self, callback: Any) -> None:
        events = [event for event in vars(self.hook) if not event.startswith("_")]
        if isinstance(callback, type):
            raise BuildError(
                f"callback {callback.__name__} is a class; give an instance, {callback.__name__}()"
            )
        if self.is_registered(callback):
            name = getattr(callback, "name", type(callback).__name__)
            raise BuildError(f"callback {name} is listed twice, the same object; list it once")
        check = getattr(callback, "check_events", None)
        if check is not None:
            check(events)
        elif not any(callable(getattr(callback, event, None)) for event in events):
            raise BuildError(
                f"callbacks has {described(callback)}, which listens to no event; give a name, a spec, an "
                "argus_core.Callback, or a function decorated with on_epoch_complete and the like"
            )
        cls = type(callback).__name__
        for event in events:
            value = getattr(callback, event, _ABSENT)
            if value is not _ABSENT and not inspect.isroutine(value):
                raise BuildError(
                    f"callback {cls} has {described(value)} as {event}, which is not a method; write "
                    f"def {event}(self, state)"
                )
        name = f"{cls}-{id(callback)}"
        try:
            self.register(callback, name=name)
        except (pluggy.PluginValidationError, ValueError) as error:
            reason = " ".join(str(error).replace(name, cls).split())
            raise BuildError(
                f"callback {cls} cannot be attached: {reason}; write its methods with the one argument state"
            ) from error

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        marked = super().parse_hookimpl_opts(plugin, name)
        if marked is not None or name.startswith("_") or name not in vars(self.hook):
            return marked
        return {
            "wrapper": False, "hookwrapper": False, "optionalhook": False,
            "tryfirst": False, "trylast": False, "specname": None,
        }  # fmt: skip
