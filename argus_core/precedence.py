"""Precedence: which provider has a short name, by which rule, and why the others have not.

The rules themselves are the registry's; here they are told. Nothing is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from argus_core.components import Component
from argus_core.pins import Pins
from argus_core.registry import active

__all__ = ["Candidate", "candidates"]


class Candidate(NamedTuple):
    """A component, and what keeps it from having its short name (``""``: nothing does)."""

    component: Component
    note: str


def candidates() -> list[Candidate]:
    """Return every component by provider, those of this process first, whether it has its name or not."""
    registry = active()
    rivals: dict[tuple[str, str], list[Component]] = {}
    for component in registry.components():
        rivals.setdefault((component.kind, component.name), []).append(component)
    found = [Candidate(each, _obstacle(each, rivals, registry.index.pins)) for each in registry.components()]
    return sorted(found, key=lambda candidate: candidate.component.provider or "")


def _obstacle(component: Component, rivals: Mapping[tuple[str, str], Sequence[Component]], pins: Pins) -> str:
    """Return what keeps a component from having its short name, by the rules of the registry in order."""
    key = component.kind, component.name
    if component.blocked_by:
        return f"switched off by {component.blocked_by}"
    if component.provider is None:
        return ""
    if any(rival.provider is None for rival in rivals[key]):
        return "shadowed by what this process has registered"
    pinned_to = pins.providers.get(key)
    if pinned_to is not None:
        return "" if pinned_to == component.provider else f"shadowed by the pin to {pinned_to} in {pins.path}"
    others = [rival.origin for rival in rivals[key] if rival is not component and not rival.blocked_by]
    return f"ambiguous: {' and '.join(others)} too; pin one" if others else ""
