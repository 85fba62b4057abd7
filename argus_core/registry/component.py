"""Components: the named parts that a registry maps to, and how one becomes its factory."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from argus_core.errors import BlockedPluginError, BrokenPluginError, SpecError, UnknownNameError, near
from argus_core.registry.distributions import BUILTIN, version_of

__all__ = [
    "ADDED_IN",
    "BUILTIN",
    "HANDED_OVER",
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
    "parallel",
    "model",
    "command",
    "config",
)
ADDED_IN = {"torch.nn:LinearCrossEntropyLoss": "2.13"}
"""The first torch that has a declared class of torch's; classes left out are in the oldest torch allowed."""
HANDED_OVER = {"optimizer": 1, "lr_scheduler": 1}
"""How many arguments a model hands to the factories of a kind, before the parameters of a spec."""


@dataclass
class _Life:
    """What becomes of a component after it was found."""

    factory: Factory | None = None
    blocked_by: str = ""
    loaded: bool = False
    error: BaseException | None = None


@dataclass(frozen=True)
class Component:
    """One named part of a kind; `load` gives its factory, the callable that builds it.

    ``provider`` and ``version`` are those of the installed distribution that declares it, and None for what
    is registered in this process. ``target`` is ``module:attribute``; it is imported by `load` alone.
    """

    kind: str
    name: str
    provider: str | None
    version: str | None
    target: str
    _life: _Life = field(default_factory=_Life, repr=False, compare=False)

    @classmethod
    def in_process(cls, kind: str, name: str, factory: Factory) -> Component:
        """Return the component for a factory that is at hand."""
        return cls(kind, name, None, None, where_defined(factory), _Life(factory=factory, loaded=True))

    @classmethod
    def declared(
        cls, kind: str, name: str, origin: tuple[str, str], target: str, blocked_by: str = ""
    ) -> Component:
        """Return the component for an entry point; ``blocked_by`` names the variable that switches it off."""
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
        """What its provider raised when it was loaded, if it did."""
        return self._life.error

    @property
    def qualified_name(self) -> str:
        """``provider/name``, or the bare name of what is registered in this process."""
        return self.name if self.provider is None else f"{self.provider}/{self.name}"

    @property
    def origin(self) -> str:
        """The provider with its version, for messages."""
        return "this process" if self.provider is None else f"{self.provider} {self.version}"

    def check_allowed(self) -> None:
        """Raise `BlockedPluginError` when the environment switches its provider off."""
        variable = self._life.blocked_by
        if variable:
            action = "add {} to" if variable == "ARGUS_PLUGINS" else "remove {} from"
            raise BlockedPluginError(
                f"{self.kind} {self.name!r} of {self.origin} is switched off by {variable}; "
                f"{action.format(self.provider)} {variable} and start again"
            )

    def load(self) -> Factory:
        """Return the factory, importing its module if need be.

        A failure is kept: the module is not tried again before `argus_core.registry.registry.rescan`.

        Raises:
            BrokenPluginError: its module cannot be imported, or has no such attribute.
            BlockedPluginError: its provider is switched off by the environment.
        """
        self.check_allowed()
        if self._life.factory is not None:
            return self._life.factory
        if self._life.error is None:
            try:
                # Followed every time, not kept: after importlib.reload the new object is the right one.
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
        """Return whether its factory is this very object; it is loaded only if it may be, by its name."""
        if self._life.factory is not None:
            return self._life.factory is factory
        if self.state in ("blocked", "broken") or not self._is_namesake(factory):
            return False
        try:
            return self.load() is factory
        except BrokenPluginError:
            return False  # the record is kept

    def declares(self, factory: Factory) -> bool:
        """Return whether this entry point leads to ``factory``, as far as can be told without an import."""
        if self.target == where_defined(factory):
            return True
        module, _, attribute = self.target.partition(":")
        if module not in sys.modules or not self._is_namesake(factory):
            return False
        # A package that is just being imported may not have come to re-exporting it yet.
        found: object = sys.modules[module]
        for name in attribute.split("."):
            found = getattr(found, name, factory)
        return found is factory

    def repeats(self, previous: Component) -> bool:
        """Return whether it is the same once more: a notebook cell that ran twice, a module reloaded."""
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
        # A module whose own import failed is not in sys.modules, whatever it raised.
        return isinstance(self._life.error, AttributeError) and self.target.partition(":")[0] in sys.modules

    def _repair(self) -> str:
        error = self._life.error
        if isinstance(error, ModuleNotFoundError) and error.name and _root(error.name) != _root(self.target):
            return f"install the package that provides {_root(error.name)!r}, or upgrade {self.provider}"
        return f"upgrade or reinstall {self.provider}"


def check_kind(kind: object) -> None:
    """Raise `UnknownNameError` unless ``kind`` is one of `KINDS`."""
    if kind not in KINDS:
        raise UnknownNameError(f"no kind {kind!r}{near(str(kind), KINDS)} ({len(KINDS)} kinds: argus list)")


def check_name(kind: str, name: object) -> None:
    """Raise `SpecError` unless ``name`` can be a component's short name."""
    if not isinstance(name, str):
        raise SpecError(f"the name of {kind} {name!r} is of type {type(name).__name__}; give a string")
    if "/" in name or name.split() != [name]:
        raise SpecError(
            f"{name!r} cannot name a {kind}; give a name that is not empty, without '/' and spaces"
        )


def is_strict() -> bool:
    """Return whether ``ARGUS_STRICT_PLUGINS`` asks that the failures of plugins are raised as they are."""
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
    import traceback  # not at start-up, where milliseconds count: hardly ever is a plugin broken

    # format_exception_only also gives, indented and first, the source of a SyntaxError.
    lines = traceback.format_exception_only(type(error), error)
    return next(line for line in lines if not line.startswith(" ")).partition("\n")[0]


def _root(path: str) -> str:
    return path.partition(":")[0].partition(".")[0]


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
