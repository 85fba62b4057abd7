"""Who listens to which event of a run, and in which order."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from argus_core.errors import BuildError
from argus_core.hooks import PROJECT, RunHooks

if TYPE_CHECKING:
    from argus_core.engine import State

__all__ = ["Handler", "handlers"]

Handler = Callable[["State"], Any]


def handlers(callbacks: Sequence[Any]) -> dict[str, tuple[Handler, ...]]:
    """Return the bound methods to call for each event: early ones, those in the listed order, late ones."""
    manager = _CallbackManager(PROJECT)
    manager.add_hookspecs(RunHooks)
    for callback in callbacks:
        for hookspecs in getattr(callback, "hookspecs", ()):
            manager.add_hookspecs(hookspecs)
    for callback in callbacks:
        manager.register_callback(callback)
    position = {id(callback): index for index, callback in enumerate(callbacks)}
    return {
        event: tuple(
            implementation.function
            for implementation in sorted(
                caller.get_hookimpls(),
                key=lambda implementation: (
                    bool(implementation.trylast) - bool(implementation.tryfirst),
                    getattr(implementation.plugin, "runs_last", False),
                    position[id(implementation.plugin)],
                ),
            )
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
                f"callbacks has {reprlib.repr(callback)}, which listens to no event; give a name, a spec, an "
                "argus_core.Callback, or a function decorated with on_epoch_complete and the like"
            )
        try:
            self.register(callback, name=f"{type(callback).__name__}-{id(callback)}")
        except (pluggy.PluginValidationError, ValueError) as error:
            raise BuildError(f"callback {type(callback).__name__} cannot be attached: {error}") from error

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        marked = super().parse_hookimpl_opts(plugin, name)
        if marked is not None or name.startswith("_") or name not in vars(self.hook):
            return marked
        return {
            "wrapper": False, "hookwrapper": False, "optionalhook": False,
            "tryfirst": False, "trylast": False, "specname": None,
        }  # fmt: skip
