"""The registry: maps a kind and a name to a component.

Components that this process registers come first, then those that installed packages declare by entry points.
The installed metadata are scanned once, at the first look-up; only `Component.load` imports a component's
module. Names are looked up, never imported: a dotted path is an unknown name.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar, overload

from argus_core.errors import ArgusError, ConfigError, SpecError
from argus_core.registry import diagnosis
from argus_core.registry.component import KINDS, Component, Factory, check_kind, check_name
from argus_core.registry.discovery import Index, scan, scan_builtins
from argus_core.registry.distributions import notice_new
from argus_core.registry.metadata import normalised

__all__ = [
    "KINDS",
    "Component",
    "Registry",
    "active",
    "component_of",
    "components",
    "is_factory_of",
    "isolated_registry",
    "names",
    "register",
    "rescan",
    "resolve",
]

F = TypeVar("F", bound=Callable[..., Any])
Key = tuple[str, str]

_ABSENT: Any = object()


class Registry:
    """The components of an index, and those registered on top of it.

    Args:
        index: what installed packages declare.
    """

    def __init__(self, index: Index) -> None:
        self._registered: dict[Key, Component] = {}
        self.update(index)

    def update(self, index: Index) -> None:
        """Replace the index; registrations of this process are kept."""
        self.index = index
        self._resolved: dict[Key, Component] = {}
        self._declared: dict[Key, list[Component]] = {}
        for component in index.components:
            self._declared.setdefault((component.kind, component.name), []).append(component)

    def register(self, kind: str, name: str, factory: Factory, *, override: bool = False) -> None:
        """Register ``factory``; see the function `register`."""
        check_kind(kind)
        check_name(kind, name)
        if not callable(factory):
            raise SpecError(f"{kind} {name!r} is {factory!r}; register a class or a function that builds it")
        if "torch" in sys.modules and isinstance(factory, sys.modules["torch"].nn.Module):
            cls = type(factory).__qualname__
            raise SpecError(f"{kind} {name!r} is an object of class {cls}; register the class, or a function")
        declared = self._allowed(kind, name)
        if any(component.declares(factory) for component in declared):
            return  # a plugin that declares it also registers it: the entry point is used
        component = Component.in_process(kind, name, factory)
        previous = self._registered.get((kind, name))
        holders = declared if previous is None else [previous]
        if holders and not (previous and component.repeats(previous)):
            if not override:
                raise diagnosis.taken(kind, name, holders)
            _log_override(component, holders[0])
        self._registered[kind, name] = self._resolved[kind, name] = component

    def resolve(self, kind: str, name: str) -> Component:
        """Return the component of that name; see the function `resolve`."""
        try:
            return self._resolved[kind, name]
        except (KeyError, TypeError):
            pass  # not looked up before, or not even hashable
        component = self.find(kind, name)
        if component is None:
            suggested = [each for each in self.components() if each.state != "blocked"]
            raise diagnosis.unknown(kind, name, self.index, suggested, len(self.names(kind)))
        self._resolved[kind, name] = component
        return component

    def find(self, kind: str, name: str) -> Component | None:
        """Return the component of that name, or None; raises as `resolve` does if it may not be used."""
        check_kind(kind)
        if not isinstance(name, str) or not name:
            raise SpecError(f"{name!r} is not a name of {kind}; give a string (argus list {kind})")
        if "/" in name:
            return self._find_qualified(kind, name)
        return self._registered.get((kind, name)) or self._choose(kind, name)

    def names(self, kind: str) -> list[str]:
        """Return the names that `resolve` takes; see the function `names`."""
        check_kind(kind)
        found = {name for other, name in self._registered if other == kind}
        for other, name in self._declared:
            if other == kind and name not in found:
                found.update(self._spellings(kind, name))
        return sorted(found)

    def components(self, kind: str | None = None) -> list[Component]:
        """Return every component; see the function `components`."""
        if kind is not None:
            check_kind(kind)
        known = [*self._registered.values(), *self.index.components]
        wanted = [component for component in known if kind in (None, component.kind)]
        return sorted(wanted, key=lambda each: (KINDS.index(each.kind), each.name, each.provider or ""))

    def component_of(self, kind: str, factory: Factory) -> Component | None:
        """Return the component of ``factory``; see the function `component_of`."""
        check_kind(kind)
        known = [*self.index.components, *self._registered.values()]
        return next((each for each in known if each.kind == kind and each.gives(factory)), None)

    def _find_qualified(self, kind: str, name: str) -> Component | None:
        provider, _, short = name.partition("/")
        provider = normalised(provider)
        for component in self._declared.get((kind, short), []):
            if component.provider == provider:
                component.check_allowed()
                return component
        return None

    def _choose(self, kind: str, name: str) -> Component | None:
        """Return the declared component that a short name means, or None; raises if it may not be used."""
        pins = self.index.pins
        if pins.fault:
            raise ConfigError(pins.fault)
        meant = self._meant(kind, name)
        if not meant and (kind, name) in pins.providers:
            raise diagnosis.wrong_pin(kind, name, pins, self._declared.get((kind, name), []))
        if len(meant) > 1:
            raise diagnosis.ambiguous(meant)
        for component in meant:
            component.check_allowed()
            return component
        return None

    def _meant(self, kind: str, name: str) -> list[Component]:
        """Return the components that a short name may mean: pinned, else allowed, else a blocked one."""
        declared = self._declared.get((kind, name), [])
        pinned_to = self.index.pins.providers.get((kind, name))
        if pinned_to is not None:
            return [component for component in declared if component.provider == pinned_to]
        return self._allowed(kind, name) or declared[:1]

    def _allowed(self, kind: str, name: str) -> list[Component]:
        return [each for each in self._declared.get((kind, name), []) if each.state != "blocked"]

    def _spellings(self, kind: str, name: str) -> list[str]:
        meant = self._meant(kind, name)
        if len(meant) == 1 and not meant[0].blocked_by and not self.index.pins.fault:
            return [name]
        return [component.qualified_name for component in self._allowed(kind, name)]


def _log_override(component: Component, holder: Component) -> None:
    import logging  # lazy, to keep start-up fast: overrides are rare

    message = "%s %r is now %s, in place of %s of %s"
    values = component.kind, component.name, component.target, holder.target, holder.origin
    logging.getLogger("argus_core.registry.registry").info(message, *values)


_lock = threading.Lock()
_process: Registry | None = None  # None before the scan
_isolated: list[Registry] = []


def active() -> Registry:
    """Return the current registry; the first call scans the installed packages."""
    global _process
    if _isolated:
        return _isolated[-1]
    if _process is None:
        with _lock:
            if _process is None:
                _process = Registry(scan())
    return _process


def rescan() -> None:
    """Scan the installed packages again; registrations of this process are kept.

    Also reads the environment's lists of plugins and the project's pins again.
    """
    with _lock:
        notice_new()
        if _process is not None:
            _process.update(scan())


@contextmanager
def isolated_registry(builtins: bool = False) -> Iterator[Registry]:
    """Use a separate registry in a ``with`` block, for tests.

    Args:
        builtins: whether it has the built-in components; it has no plugins and no pins.
    """
    registry = Registry(scan_builtins() if builtins else Index())
    _isolated.append(registry)
    try:
        yield registry
    finally:
        _isolated.remove(registry)


@overload
def register(kind: str, name: str, *, override: bool = False) -> Callable[[F], F]: ...
@overload
def register(kind: str, name: str, factory: F, *, override: bool = False) -> F: ...
def register(kind: str, name: str, factory: Any = _ABSENT, *, override: bool = False) -> Any:
    """Register a factory in this process, and return it.

    ``register("loss", "focal", FocalLoss)`` and the decorator ``@register("loss", "focal")`` do the same.
    Registering the same class or function again (by module and name) replaces the first without an error.
    If an installed package declares it under that name, the declaration is used.

    Args:
        kind: one of `KINDS`.
        name: without ``/`` and spaces.
        factory: a class or function that builds the component.
        override: whether to replace another component of that name, which is logged.

    Raises:
        ConflictError: another component has the name.
        SpecError: ``name`` is not allowed, or ``factory`` is not callable.
        UnknownNameError: the kind is unknown.
    """
    if factory is _ABSENT:
        return functools.partial(_register, kind, name, override=override)
    return _register(kind, name, factory, override=override)


def _register(kind: str, name: str, factory: F, *, override: bool) -> F:
    active().register(kind, name, factory, override=override)
    return factory


def is_factory_of(kind: str, name: str, factory: object) -> bool:
    """Return whether a name means the component that ``factory`` builds; False if its package cannot load."""
    with suppress(ArgusError):
        component = active().find(kind, name)
        return component is not None and component.load() is factory
    return False


def resolve(kind: str, name: str) -> Component:
    """Return the component that ``name`` means, without importing its module.

    Args:
        kind: one of `KINDS`.
        name: a short name, or ``provider/name``.

    Raises:
        UnknownNameError: no package has the name; the message suggests near names.
        AmbiguousNameError: several packages have it.
        BlockedPluginError: the environment switches its package off.
        ConfigError: the project's pins cannot be read, or name a package that does not have it.
        SpecError: ``name`` is not a string.
    """
    return active().resolve(kind, name)


def names(kind: str) -> list[str]:
    """Return the names of a kind that `resolve` takes, sorted.

    For a short name that several packages share without a pin, it lists the qualified names.
    """
    return active().names(kind)


def components(kind: str | None = None) -> list[Component]:
    """Return all components of a kind (None: of all kinds), sorted; ambiguous and blocked ones too."""
    return active().components(kind)


def component_of(kind: str, factory: Factory) -> Component | None:
    """Return the component whose factory is this object, or None.

    An entry point comes before a registration in this process, since other processes find it too.
    """
    return active().component_of(kind, factory)
