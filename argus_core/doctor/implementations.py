"""The check that a step strategy or a callback spells its hooks, and their arguments, as a run calls them.

Nothing is built: the methods of an instance whose ``__init__`` has not run are enough.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from argus_core.errors import BuildError
from argus_core.hooks import PROJECT
from argus_core.registry.component import Component, Factory
from argus_core.steps.hooks import StepHooks

__all__ = ["misspelled_hooks"]

_SLOTS = {
    name: list(inspect.signature(slot).parameters)[1:]
    for name, slot in vars(StepHooks).items()
    if not name.startswith("_")
}
_ALIKE = 0.8


def misspelled_hooks(component: Component, factory: Factory) -> Iterator[str]:
    """Yield a sentence for each wrong hook of a strategy's or callback's class, with the right hook.

    Raises:
        LookupError: the hooks are not known before the component is built.
    """
    check = {"step": _check_strategy, "callback": _check_callback}.get(component.kind)
    if check is None:
        return
    if not isinstance(factory, type):
        raise LookupError("it is built by a function")
    try:
        bare: Any = object.__new__(factory)
        listens = check(component, bare)
    except BuildError as error:
        yield str(error)
        return
    except Exception as error:
        raise LookupError(f"an instance without its __init__ raises {type(error).__name__}") from error
    if not listens:
        raise LookupError("its class has no method named after an event")
    yield from _unmarked(factory) if component.kind == "step" else ()


def _check_strategy(component: Component, bare: Any) -> bool:
    from argus_core.steps.strategy import Strategy, check_hooks  # imports torch

    check_hooks(Strategy(component.name, bare, component.origin))
    return True


def _check_callback(component: Component, bare: Any) -> bool:
    from argus_core.callbacks.audience import handlers_of

    return any(handlers_of([bare]).values())


def _unmarked(strategy: type) -> Iterator[str]:
    """Yield the methods that are probably meant as hooks: nearly the name, and the arguments, of a slot."""
    for name in dir(strategy):
        method = inspect.getattr_static(strategy, name)
        if name.startswith("_") or name in _SLOTS or not inspect.isfunction(method):
            continue
        near = difflib.get_close_matches(name, _SLOTS, n=1, cutoff=_ALIKE)
        if near and not hasattr(method, f"{PROJECT}_impl") and _arguments(method) == _SLOTS[near[0]]:
            yield (
                f"step strategy {strategy.__name__} has a method {name!r}, which is not a hook; "
                f"did you mean {near[0]!r}, marked with hookimpl?"
            )


def _arguments(method: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(method).parameters)[1:]
