"""Records: a checkpoint's entries about the model's components, and the installed components they match.

Names are looked up among the installed plugins, never imported; nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from argus_core.registry import registry
from argus_core.registry.component import BUILTIN, Component
from argus_core.registry.diagnosis import Missing
from argus_core.registry.part import KIND_OF_PART

__all__ = ["Record", "drift", "find", "missing", "origin_of", "records_of"]

Record = Mapping[str, Any]
"""``as``, a string; ``name``, ``provider``, ``version`` and ``entry_point``, which may be None."""

# Characters. The search for similar names takes time and memory that grow with the name.
_LONGEST_NAME = 1000


def records_of(manifest: Mapping[str, Any]) -> list[tuple[str, Record]] | None:
    """Return the kind and record of the model and of each of its parts, including step strategies.

    Returns None where the manifest is not in the form that argus_core writes.
    """
    model, components = manifest.get("model"), manifest.get("components")
    if not isinstance(components, dict):
        return None
    steps = components.get("step", [])
    parts = [
        (KIND_OF_PART[part], components[part]) for part in KIND_OF_PART if components.get(part) is not None
    ]
    if not isinstance(steps, list):
        return None
    found = [("model", model), *parts, *(("step", step) for step in steps)]
    return found if all(_is_record(record) for _, record in found) else None


def find(kind: str, record: Record) -> Component | None:
    """Return the component that a record names, by its qualified or else its chosen name, or None."""
    names = record["name"] or record["as"], record["as"]
    known = registry.active()
    return known.find(kind, names[0]) or known.find(kind, names[1])


def missing(kind: str, record: Record) -> Missing:
    """Return the message about a component that no installed package provides."""
    why = f"it was {record['entry_point']}" if record["entry_point"] else "named in the file"
    return kind, record["name"] or record["as"], record["version"], why


def drift(kind: str, record: Record, component: Component) -> str | None:
    """Return the message about another provider or version of a component than at saving; None if equal."""
    saved, now = (record["provider"], record["version"]), (component.provider, component.version)
    if record["name"] is None or saved == now or saved[0] == now[0] == BUILTIN:
        return None
    return (
        f"{kind} {record['as']!r} was provided by {origin_of(*saved)} when the checkpoint was saved and is "
        f"by {origin_of(*now)} now; install what it was if results differ"
    )


def origin_of(provider: str | None, version: str | None) -> str:
    """Return a provider with its version, for messages."""
    return " ".join(filter(None, (provider, version))) or "code in the process"


def _is_record(record: Any) -> bool:
    fields = ("as", "name", "provider", "version", "entry_point")
    return (
        isinstance(record, dict)
        and isinstance(record.get("as"), str)
        and all(field in record and isinstance(record[field], str | None) for field in fields)
        and max(len(record[field] or "") for field in fields) <= _LONGEST_NAME
    )
