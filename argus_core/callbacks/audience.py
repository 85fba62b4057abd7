"""The callbacks of a run by event, in the order in which they are called."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pluggy

from argus_core.callbacks.callback import Callback
from argus_core.callbacks.hooks import RunHooks
from argus_core.callbacks.state import State
from argus_core.errors import BuildError
from argus_core.hooks import PROJECT
from argus_core.registry.factory import described

__all__ = ["Handler", "handlers_of", "named"]

_ABSENT = object()
_OF_EVERY_CALLBACK = frozenset(dir(Callback))

Handler = Callable[["State"], Any]


def named(callbacks: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield callbacks with unique names: the second of one name is ``name-2``."""
    seen: Counter[str] = Counter()
    for callback in callbacks:
        name = str(getattr(callback, "name", type(callback).__name__))
        seen[name] += 1
        yield (name if seen[name] == 1 else f"{name}-{seen[name]}"), callback


def handlers_of(callbacks: Sequence[Any]) -> dict[str, tuple[Handler, ...]]:
    """Return the bound methods to call for each event: early ones, those in the listed order, late ones.

    Args:
        callbacks: objects with methods named after events.

    Raises:
        BuildError: an object is not a callback, or its method cannot handle an event.
    """
    manager = _CallbackManager(PROJECT)
    manager.add_hookspecs(RunHooks)
    for callback in callbacks:
        for hookspecs in getattr(callback, "hookspecs", ()):
            manager.add_hookspecs(hookspecs)
    for callback in callbacks:
        manager.register_callback(callback)
    place = {id(callback): index for index, callback in enumerate(callbacks)}

    def order(implementation: pluggy.HookImpl) -> tuple[int, int, int]:
        callback = implementation.plugin
        lateness = bool(implementation.trylast) - bool(implementation.tryfirst)
        return lateness, getattr(callback, "runs_last", False), place[id(callback)]

    return {
        event: tuple(each.function for each in sorted(caller.get_hookimpls(), key=order))
        for event, caller in vars(manager.hook).items()
        if not event.startswith("_")
    }


class _CallbackManager(pluggy.PluginManager):
    """A plugin manager that takes methods named after events as hook implementations."""

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
                f"callbacks has {described(callback)}, which has no method for an event; give a name, a "
                "spec, an argus_core.Callback, or a function decorated with on_epoch_complete or "
                "another on_* decorator"
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

    # pluggy looks at each attribute of an object, which takes 10 us: most are those of every object.

    def parse_hookspec_opts(self, module_or_class: Any, name: str) -> pluggy.HookspecOpts | None:
        return None if name.startswith("__") else super().parse_hookspec_opts(module_or_class, name)

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        if name.startswith("__") or name in _OF_EVERY_CALLBACK:
            return None
        marked = super().parse_hookimpl_opts(plugin, name)
        if marked is not None or name.startswith("_") or name not in vars(self.hook):
            return marked
        return {
            "wrapper": False, "hookwrapper": False, "optionalhook": False,
            "tryfirst": False, "trylast": False, "specname": None,
        }  # fmt: skip
