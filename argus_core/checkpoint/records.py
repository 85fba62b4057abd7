"""Records: a component in a manifest, written and read, and the installed component that it matches.

Names are looked up among the installed plugins, never imported; nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from argus_core.checkpoint.sections import malformed
from argus_core.registry import registry
from argus_core.registry.component import BUILTIN, Component
from argus_core.registry.diagnosis import Missing
from argus_core.registry.part import KIND_OF_PART

__all__ = ["Record", "drift", "find", "is_record", "missing", "origin_of", "record_of", "records_of"]

Record = Mapping[str, Any]
"""A component in a manifest.

``as`` is the name by which it was chosen. ``name`` (qualified), ``provider``, ``version`` and ``entry_point``
(for messages only) may be None. ``registered_by``, for messages too, is the module of a project's own parts.
"""

_FIELDS = ("as", "name", "provider", "version", "entry_point")
_REGISTERED_BY = "registered_by"

# Characters. The search for similar names takes time and memory that grow with the name.
_LONGEST_NAME = 1000


def record_of(name: str, component: Component | None, factory: Callable[..., Any] | None = None) -> Record:
    """Return the record of a component that was chosen by a name; of a factory that is not registered."""
    if component is not None:
        origin = component.provider, component.version, component.target
        record = dict(zip(_FIELDS, (name, component.qualified_name, *origin), strict=True))
        return record | ({_REGISTERED_BY: component.registered_by} if component.registered_by else {})
    target = None
    if factory is not None:
        target = f"{factory.__module__}:{getattr(factory, '__qualname__', type(factory).__qualname__)}"
    return dict(zip(_FIELDS, (name, None, None, None, target), strict=True))


def records_of(manifest: Mapping[str, Any], path: Path) -> list[tuple[str, Record]]:
    """Return the kind and record of the model and of each of its parts, including step strategies.

    Raises:
        UnsafeCheckpointError: the manifest of the file at ``path`` is not as argus_core writes it.
    """
    model, components = manifest.get("model"), manifest.get("components")
    if not isinstance(components, dict) or not isinstance(components.get("step", []), list):
        raise malformed(path, "components")
    found: list[tuple[str, Any]] = [("model", model)]
    found += [
        (kind, components[part]) for part, kind in KIND_OF_PART.items() if components.get(part) is not None
    ]
    found += [("step", step) for step in components.get("step", [])]
    if not all(is_record(record) for _, record in found):
        raise malformed(path, "components")
    return found


def find(kind: str, record: Record) -> Component | None:
    """Return the component that a record names, by its qualified or else its chosen name, or None."""
    names = record["name"] or record["as"], record["as"]
    known = registry.active()
    return known.find(kind, names[0]) or known.find(kind, names[1])


def missing(kind: str, record: Record) -> Missing:
    """Return the message about a component that no installed package provides."""
    why = f"saved from {record['entry_point']}" if record["entry_point"] else "named in the file"
    if by := record.get(_REGISTERED_BY):
        why += f", which the module {by} registered: --parts gives it to a command"
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


def is_record(record: Any) -> bool:
    """Return whether a value has the form of a record."""
    return (
        isinstance(record, dict)
        and isinstance(record.get("as"), str)
        and all(field in record for field in _FIELDS)
        and isinstance(record.get(_REGISTERED_BY), str | None)
        and all(isinstance(record[field], str | None) for field in _FIELDS)
        and max(len(record.get(field) or "") for field in (*_FIELDS, _REGISTERED_BY)) <= _LONGEST_NAME
    )
