"""Components: what the registry finds under a name, and the import of its factory."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from argus_core.errors import BlockedPluginError, BrokenPluginError, SpecError, UnknownNameError, near
from argus_core.registry.distributions import BUILTIN, version_of
from argus_core.registry.registering import registering_module

__all__ = [
    "ADDED_IN",
    "BUILTIN",
    "KINDS",
    "Component",
    "Factory",
    "check_kind",
    "check_name",
    "is_strict",
    "where_defined",
]

Factory = Callable[..., Any]

KINDS: tuple[str, ...] = (
    "nn_module",
    "loss",
    "optimizer",
    "transform",
    "step",
    "metric",
    "callback",
    "lr_scheduler",
    "dataset",
    "sampler",
    "collate",
    "reader",
    "parallel",
    "model",
    "command",
    "config",
)
ADDED_IN = {"torch.nn:LinearCrossEntropyLoss": "2.13"}
"""The first torch version with each class; other declared classes are in the oldest torch allowed."""


@dataclass
class _Life:
    """The state of a component after it was found."""

    factory: Factory | None = None
    blocked_by: str = ""
    loaded: bool = False
    error: BaseException | None = None
    registered_by: str | None = None


@dataclass(frozen=True)
class Component:
    """A network, loss or other part that a name chooses; `load` returns the factory that builds it.

    ``provider`` and ``version`` are the installed package that declares it; both are None if it is registered
    in this process. ``target`` is ``module:attribute``; only `load` imports it.
    """

    kind: str
    name: str
    provider: str | None
    version: str | None
    target: str
    _life: _Life = field(default_factory=_Life, repr=False, compare=False)

    @classmethod
    def in_process(cls, kind: str, name: str, factory: Factory) -> Component:
        """Return the component of a factory that is registered in this process."""
        life = _Life(factory=factory, loaded=True, registered_by=registering_module())
        return cls(kind, name, None, None, where_defined(factory), life)

    @classmethod
    def declared(
        cls, kind: str, name: str, origin: tuple[str, str], target: str, blocked_by: str = ""
    ) -> Component:
        """Return the component of an entry point; ``blocked_by`` is the variable that switches it off."""
        return cls(kind, name, *origin, target, _Life(blocked_by=blocked_by))

    @property
    def state(self) -> str:
        """``declared``, ``loaded``, ``broken`` or ``blocked``."""
        if self._life.blocked_by:
            return "blocked"
        if self._life.error is not None:
            return "broken"
        return "loaded" if self._life.loaded else "declared"

    @property
    def blocked_by(self) -> str:
        """The environment variable that switches its provider off, or ``""``."""
        return self._life.blocked_by

    @property
    def error(self) -> BaseException | None:
        """The exception that importing its module raised, or None."""
        return self._life.error

    @property
    def registered_by(self) -> str | None:
        """The module of the project's own parts that registered it in this process, or None."""
        return self._life.registered_by

    @property
    def qualified_name(self) -> str:
        """``provider/name``, or the name alone if it is registered in this process."""
        return self.name if self.provider is None else f"{self.provider}/{self.name}"

    @property
    def origin(self) -> str:
        """The package that provides it, with its version, for messages."""
        return "this process" if self.provider is None else f"{self.provider} {self.version}"

    def check_allowed(self) -> None:
        """Raise `BlockedPluginError` if the environment switches its package off."""
        variable = self._life.blocked_by
        if variable:
            action = "add {} to" if variable == "ARGUS_PLUGINS" else "remove {} from"
            raise BlockedPluginError(
                f"{self.kind} {self.name!r} of {self.origin} is switched off by {variable}; "
                f"{action.format(self.provider)} {variable} and start again"
            )

    def load(self) -> Factory:
        """Return the factory; the first call imports its module.

        After a failure the module is not imported again before `argus_core.registry.registry.rescan`.

        Raises:
            BrokenPluginError: its module cannot be imported, or lacks the attribute.
            BlockedPluginError: the environment switches its package off.
        """
        self.check_allowed()
        if self._life.factory is not None:
            return self._life.factory
        if self._life.error is None:
            try:
                # Not cached: after importlib.reload the module has a new object.
                factory = _follow(self.target)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # SystemExit too: a plugin never ends the program
                self._life.error = error
            else:
                self._life.loaded = True
                return factory
        assert self._life.error is not None
        if is_strict():
            raise self._life.error
        raise self._broken() from self._life.error

    def gives(self, factory: Factory) -> bool:
        """Return whether this object is its factory; it is loaded only if the object has its name."""
        if self._life.factory is not None:
            return self._life.factory is factory
        if self.state in ("blocked", "broken") or not self._is_namesake(factory):
            return False
        try:
            return self.load() is factory
        except BrokenPluginError:
            return False  # `error` keeps the exception

    def declares(self, factory: Factory) -> bool:
        """Return whether this entry point leads to ``factory``; nothing is imported to find out."""
        if self.target == where_defined(factory):
            return True
        module, _, attribute = self.target.partition(":")
        if module not in sys.modules or not self._is_namesake(factory):
            return False
        # A package that is still being imported may not have re-exported it yet.
        found: object = sys.modules[module]
        for name in attribute.split("."):
            found = getattr(found, name, factory)
        return found is factory

    def repeats(self, previous: Component) -> bool:
        """Return whether it is the same factory again: a notebook cell ran twice, a module was reloaded."""
        ours, theirs = self._life.factory, previous._life.factory
        return ours is theirs or (hasattr(ours, "__qualname__") and self.target == previous.target)

    def _is_namesake(self, factory: Factory) -> bool:
        module, _, qualname = where_defined(factory).partition(":")
        return self.target.partition(":")[2] == qualname and _root(self.target) == _root(module)

    def _broken(self) -> BrokenPluginError:
        needed = ADDED_IN.get(self.target)
        torch = (version_of("torch") or "none").partition("+")[0]
        if needed and self._lacks_attribute() and _release(torch) < _release(needed):
            return BrokenPluginError(
                f"{self.kind} {self.name!r} needs torch>={needed} (installed: {torch}); "
                f"pip install 'torch>={needed}'"
            )
        return BrokenPluginError(
            f"{self.kind} {self.name!r} of {self.origin} cannot be loaded from {self.target!r}: "
            f"{_one_line(self._life.error)}; {self._repair()}"
        )

    def _lacks_attribute(self) -> bool:
        # A module whose import failed is not in sys.modules.
        return isinstance(self._life.error, AttributeError) and self.target.partition(":")[0] in sys.modules

    def _repair(self) -> str:
        error = self._life.error
        if isinstance(error, ModuleNotFoundError) and error.name and _root(error.name) != _root(self.target):
            return f"install the package that provides {_root(error.name)!r}, or upgrade {self.provider}"
        return f"upgrade or reinstall {self.provider}"


def check_kind(kind: object) -> None:
    """Raise `UnknownNameError` unless ``kind`` is one of `KINDS`."""
    if kind not in KINDS:
        hint = near(str(kind), KINDS) or f"; the kinds are {', '.join(KINDS)}"
        raise UnknownNameError(f"no kind {kind!r}{hint}")


def check_name(kind: str, name: object) -> None:
    """Raise `SpecError` unless ``name`` can be a component's short name."""
    if not isinstance(name, str):
        raise SpecError(f"the name of {kind} {name!r} is of type {type(name).__name__}; give a string")
    if "/" in name or name.split() != [name]:
        raise SpecError(
            f"{name!r} cannot name a {kind}; give a name that is not empty, without '/' and spaces"
        )


def is_strict() -> bool:
    """Return whether ``ARGUS_STRICT_PLUGINS`` is set, so that exceptions of plugins are raised unchanged."""
    return os.environ.get("ARGUS_STRICT_PLUGINS", "") not in ("", "0")


def where_defined(factory: Factory) -> str:
    """Return ``module:qualname`` of a class or function, or of its type for any other callable."""
    named = factory if hasattr(factory, "__qualname__") else type(factory)
    return f"{getattr(named, '__module__', None) or 'builtins'}:{named.__qualname__}"


def _follow(target: str) -> Factory:
    module, _, attribute = target.partition(":")
    if not attribute:
        raise ValueError(f"{target!r} is not 'module:attribute'")
    found, owner = importlib.import_module(module), f"module {module!r}"
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            hint = near(name, [each for each in dir(found) if not each.startswith("_")], 2)
            raise AttributeError(f"{owner} has no attribute {name!r}{hint}") from error
        owner = repr(name)
    if not callable(found):
        raise TypeError(f"{target!r} is of type {type(found).__name__}, not a callable")
    factory: Factory = found
    return factory


def _one_line(error: BaseException | None) -> str:
    import traceback  # lazy, to keep start-up fast: broken plugins are rare

    # For a SyntaxError the first lines are its source, indented.
    lines = traceback.format_exception_only(type(error), error)
    return next(line for line in lines if not line.startswith(" ")).partition("\n")[0]


def _root(path: str) -> str:
    return path.partition(":")[0].partition(".")[0]


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
