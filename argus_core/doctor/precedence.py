"""Precedence: the package that a short name selects, by which rule, and why it selects no other.

The registry has the rules; this module explains their result. No plugin is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from argus_core.errors import AmbiguousNameError, BlockedPluginError, ConfigError
from argus_core.registry import diagnosis
from argus_core.registry.component import BUILTIN, KINDS, Component
from argus_core.registry.pins import Pins, line_of
from argus_core.registry.registry import active

__all__ = ["Candidate", "Verdict", "by_name", "candidates", "kinds_of", "verdict"]

_MOST_TOLD = 3


class Candidate(NamedTuple):
    """A component, and the reason that its short name does not select it (``""``: it does)."""

    component: Component
    note: str


class Verdict(NamedTuple):
    """The component that a name selects and the rule, or the reason that it selects none; and the others."""

    kind: str
    name: str
    winner: Component | None
    reason: str
    losers: tuple[Candidate, ...]


def candidates() -> list[Candidate]:
    """Return every component, sorted by package; those of this process come first."""
    registry = active()
    components = registry.components()
    rivals = by_name(components)
    found = [Candidate(each, _obstacle(each, rivals, registry.index.pins)) for each in components]
    return sorted(found, key=lambda candidate: candidate.component.provider or "")


def kinds_of(name: str) -> list[str]:
    """Return the kinds that have a short or qualified name, removed names included.

    Raises:
        UnknownNameError: no kind has it.
    """
    registry = active()
    known = [each for each in registry.components() if name in (each.name, each.qualified_name)]
    removed = registry.index.removals
    given_up = [each.kind for each in removed if name in (each.name, f"{each.provider}/{each.name}")]
    found = {*(each.kind for each in known), *given_up}
    if not found:
        raise diagnosis.unknown_anywhere(name, registry.components())
    return [kind for kind in KINDS if kind in found]


def verdict(kind: str, name: str) -> Verdict:
    """Return the component that a short or qualified name selects, and the others of that name.

    Raises:
        UnknownNameError: the name is unknown, or was removed.
    """
    registry = active()
    winner: Component | None = None
    try:
        winner = registry.resolve(kind, name)
        reason = _rule(winner, name)
    except (AmbiguousNameError, BlockedPluginError, ConfigError) as error:
        reason = str(error)
    short = name.rpartition("/")[2]
    same = [each for each in registry.components(kind) if each.name == short]
    rivals = by_name(same)
    if winner is None or "/" not in name:
        losers = [Candidate(each, _obstacle(each, rivals, registry.index.pins)) for each in same]
    else:
        losers = [Candidate(each, f"{name!r} asks for {winner.provider}") for each in same]
    return Verdict(kind, name, winner, reason, tuple(each for each in losers if each.component is not winner))


def _rule(winner: Component, name: str) -> str:
    """Return the rule by which a name selects a component."""
    pins = active().index.pins
    key = winner.kind, winner.name
    if winner.provider is None:
        return "it is registered in this process, which comes first"
    if "/" in name:
        return "the name contains the package"
    if key in pins.providers:
        line = line_of(pins, *key)
        return f"the name is pinned to {winner.provider} in {pins.path}" + (f":{line}" if line else "")
    if winner.provider == BUILTIN:
        return "it is built in, and no plugin has this name"
    return "only this package has the name"


def by_name(components: Iterable[Component]) -> dict[tuple[str, str], list[Component]]:
    """Return components that are not switched off, by kind and name; those of this process come first."""
    rivals: dict[tuple[str, str], list[Component]] = {}
    for component in components:
        if not component.blocked_by:
            rivals.setdefault((component.kind, component.name), []).append(component)
    return rivals


def _obstacle(component: Component, rivals: Mapping[tuple[str, str], Sequence[Component]], pins: Pins) -> str:
    """Return the reason that its short name does not select a component, or ``""``."""
    key = component.kind, component.name
    if component.blocked_by:
        return f"switched off by {component.blocked_by}"
    if component.provider is None or (len(rivals[key]) == 1 and key not in pins.providers):
        return ""
    if rivals[key][0].provider is None:
        return "shadowed by a registration in this process"
    pinned_to = pins.providers.get(key)
    if pinned_to is not None:
        return "" if pinned_to == component.provider else f"shadowed by the pin to {pinned_to} in {pins.path}"
    # Only the first: all of thousands for each would take memory with the square of their number.
    others = [rival.origin for rival in rivals[key][: _MOST_TOLD + 1] if rival is not component][:_MOST_TOLD]
    rest = len(rivals[key]) - 1 - len(others)
    return f"ambiguous: {' and '.join([*others, *([f'{rest:,} more'] if rest else [])])} too; pin one"
