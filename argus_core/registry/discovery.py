"""Discovery: one scan of installed metadata finds the components that packages declare."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from argus_core.errors import BrokenPluginError, ConfigError, SpecError, near
from argus_core.registry.component import BUILTIN, KINDS, Component, check_name, is_strict
from argus_core.registry.distributions import Installed, Problem, installed, version_of
from argus_core.registry.metadata import Entry, normalised
from argus_core.registry.pins import NO_PINS, Pins, read_pins

__all__ = [
    "BUILTIN",
    "GROUP",
    "REMOVED",
    "Index",
    "Removal",
    "left_out",
    "read_index",
    "scan",
    "scan_builtins",
    "switches_without_effect",
    "version_of",
]

GROUP = "argus_core."
REMOVED = "argus_core.removed"

_MOST_GROUPS = 100  # of one package; there are far fewer kinds
_TARGET = re.compile(r"([\w.]+)\s*:\s*([\w.]+)\s*(\[.*\])?")


class Removal(NamedTuple):
    """A name that an earlier version of a package declared, and the name that replaces it."""

    kind: str
    name: str
    provider: str
    version: str
    replacement: str


class Index(NamedTuple):
    """The result of a scan; ``problems`` are the declarations that it left out."""

    components: tuple[Component, ...] = ()
    removals: tuple[Removal, ...] = ()
    problems: tuple[Problem, ...] = ()
    pins: Pins = NO_PINS


def scan(path: Sequence[str] | None = None) -> Index:
    """Return the index of what the packages on ``path`` (``sys.path`` by default) declare.

    Also reads the environment and the nearest ``pyproject.toml``. Imports nothing.

    Raises:
        BrokenPluginError: a declaration is wrong, and ``ARGUS_STRICT_PLUGINS`` is set.
    """
    index = read_index(path)
    if index.problems and is_strict():
        raise BrokenPluginError(
            f"{index.problems[0]}; upgrade or uninstall it, or unset ARGUS_STRICT_PLUGINS"
        )
    return index


def read_index(path: Sequence[str] | None = None) -> Index:
    """Return the index of what is declared on ``path``, with the project's pins; faults are kept in it."""
    try:
        pins = read_pins()
    except ConfigError as error:  # the registry raises it when a name is looked up
        pins = Pins(fault=str(error))
    return _index(installed(GROUP, path), pins)


def left_out(distribution: Installed) -> Iterator[tuple[Entry, str]]:
    """Yield the declarations of a package that an index leaves out, each with the reason."""
    return ((entry, reason) for entry, reason in _judged(distribution) if reason)


def switches_without_effect(index: Index) -> Iterator[str]:
    """Yield a sentence for each package in the environment's lists that is not a plugin."""
    providers = {component.provider for component in index.components if component.provider}
    providers |= {removal.provider for removal in index.removals}
    providers |= {problem.origin.partition(" ")[0] for problem in index.problems}
    for variable in ("ARGUS_PLUGINS", "ARGUS_DISABLE_PLUGINS"):
        for name in sorted(_names(os.environ.get(variable, "")) - providers - {"", BUILTIN}):
            version = version_of(name)
            reason = "is not installed" if version is None else f"declares no components in version {version}"
            yield f"{variable} has {name!r}, which {reason}{near(name, providers - {BUILTIN}, 2)}"


def scan_builtins() -> Index:
    """Return the index of the built-in components, without pins."""
    found = (item for item in installed(GROUP) if isinstance(item, Installed) and item.name == BUILTIN)
    return _index(found, NO_PINS)


def _index(found: Iterator[Installed | Problem], pins: Pins) -> Index:
    lists = _lists()
    rows: list[Component | Removal | Problem] = []
    for item in found:
        if isinstance(item, Problem):
            rows.append(item)
        else:
            rows.extend(_declarations(item, _blocked_by(item.name, *lists)))
    return Index(
        tuple(row for row in rows if isinstance(row, Component)),
        tuple(row for row in rows if isinstance(row, Removal)),
        tuple(row for row in rows if isinstance(row, Problem)),
        pins,
    )


def _declarations(distribution: Installed, blocked_by: str) -> Iterator[Component | Removal | Problem]:
    for entry, reason in _judged(distribution):
        if reason:
            origin = f"{distribution.name} {distribution.version}"
            yield Problem(origin, f"entry point {entry.name!r} of group {entry.group!r} is ignored, {reason}")
        else:
            yield _declaration(distribution, entry, blocked_by)


def _judged(distribution: Installed) -> Iterator[tuple[Entry, str]]:
    """Yield every declaration with its fault, ``""`` if there is none."""
    seen: set[tuple[str, str]] = set()
    # Finding near kinds for thousands of groups would take seconds.
    hinted = KINDS if len({entry.group for entry in distribution.entries}) <= _MOST_GROUPS else ()
    for entry in distribution.entries:
        place = entry.group, entry.name
        yield entry, "its name is declared twice" if place in seen else _fault(entry, hinted)
        seen.add(place)


def _declaration(distribution: Installed, entry: Entry, blocked_by: str) -> Component | Removal:
    origin = distribution.name, distribution.version
    if entry.group == REMOVED:
        kind, _, name = entry.name.partition(".")
        return Removal(kind, name, *origin, entry.value)
    kind = entry.group[len(GROUP) :]
    spelled = entry.value
    if "[" in spelled or " " in spelled or not spelled.isprintable():
        # Such as medseg.losses : Focal [gpu]; any other form fails when it is loaded.
        target = _TARGET.fullmatch(spelled)
        spelled = ":".join(target.group(1, 2)) if target else spelled
    return Component.declared(kind, entry.name, origin, spelled, blocked_by)


def _fault(entry: Entry, hinted: Sequence[str]) -> str:
    kind, name = entry.group[len(GROUP) :], entry.name
    if entry.group == REMOVED:
        kind, _, name = name.partition(".")
    if kind not in KINDS:
        return f"there is no kind {kind!r}{near(kind, hinted)}"
    try:
        check_name(kind, name)
    except SpecError as error:
        return str(error)
    return "" if entry.value else "it has no value"


def _lists() -> tuple[set[str] | None, set[str]]:
    """Return the packages that the environment allows (None: all) and those that it switches off."""
    allowed = os.environ.get("ARGUS_PLUGINS")
    return None if allowed is None else _names(allowed), _names(os.environ.get("ARGUS_DISABLE_PLUGINS", ""))


def _blocked_by(provider: str, allowed: set[str] | None, disabled: set[str]) -> str:
    """Return the environment variable that switches a package off, or ``""``."""
    if provider == BUILTIN:
        return ""
    if provider in disabled:
        return "ARGUS_DISABLE_PLUGINS"
    return "" if allowed is None or provider in allowed else "ARGUS_PLUGINS"


def _names(value: str) -> set[str]:
    return {normalised(name.strip()) for name in value.split(",")}
