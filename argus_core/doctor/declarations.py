"""Faults in metadata: misspelled groups, invalid names, copies, ambiguous names, pins."""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from argus_core.doctor.fault import Fault, split_message
from argus_core.doctor.precedence import by_name
from argus_core.errors import ArgusError
from argus_core.registry import diagnosis
from argus_core.registry.component import KINDS, Component
from argus_core.registry.discovery import GROUP, REMOVED, Index, left_out
from argus_core.registry.distributions import BUILTIN, Installed, Problem, built_in, installed, version_of
from argus_core.registry.metadata import Entry, Metadata, MetadataError, all_metadata
from argus_core.registry.registry import Registry

__all__ = ["ambiguous_names", "copies", "correct_entry_point", "declarations", "misspelled_groups", "pins"]

_GROUPS = (*(GROUP + kind for kind in KINDS), REMOVED)
_OURS = re.compile(r"argus_?(cor|core|torch)?(?:_|$)")
_ALIKE = 0.75
_MOST_TOLD = 100  # entry points of one package
_MOST_PINS = 20
_MOST_GROUPS = 1000


def declarations(path: Sequence[str] | None = None) -> Iterator[Fault]:
    """Yield the faults in the declarations of entry points, unreadable metadata included."""
    for item in installed(GROUP, path):
        if isinstance(item, Problem):
            fix = f"reinstall it, or delete its remains in {item.folder}"
            yield Fault("metadata", (item.origin,), "metadata", item.reason, fix)
        else:
            yield from _declarations(item)
    yield from misspelled_groups(path=path)


def misspelled_groups(provider: str | None = None, path: Sequence[str] | None = None) -> Iterator[Fault]:
    """Yield groups of entry points that are nearly one of argus_core's, of one package or of all."""
    for item in installed("", path):
        if isinstance(item, Problem) or provider not in (None, item.name):
            continue
        groups = dict.fromkeys(entry.group for entry in item.entries)
        for group in islice(groups, _MOST_GROUPS):
            meant = None if group.startswith(GROUP) else _meant_group(group)
            if meant:
                origin = f"{item.name} {item.version}"
                fix = correct_entry_point(item.name, f'write it as [project.entry-points."{meant}"]')
                problem = f"is not read by argus_core; did you mean {meant!r}?"
                yield Fault("group", (origin,), f"entry point group {group!r}", problem, fix)


def correct_entry_point(provider: str, change: str) -> str:
    """Return the fix of an entry point, for the author of the package and for its users."""
    return (
        f"{change} in the pyproject.toml of {provider} and install it again; "
        f"if it is not yours, upgrade or uninstall {provider}"
    )


def _declarations(distribution: Installed) -> Iterator[Fault]:
    origin = (f"{distribution.name} {distribution.version}",)
    skipped = dict(left_out(distribution))
    for entry, reason in islice(skipped.items(), _MOST_TOLD):
        fix = correct_entry_point(distribution.name, _change(entry))
        yield Fault("declaration", origin, _subject(entry), reason, fix)
    for entry in distribution.entries:
        plain = unicodedata.normalize("NFKC", entry.name)
        if entry not in skipped and (plain != entry.name or not entry.name.isprintable()):
            problem = f"its name {entry.name!a} has characters that are invisible or look like others"
            fix = correct_entry_point(distribution.name, "write the name in plain letters")
            yield Fault("declaration", origin, _subject(entry), problem, fix)
    if len(skipped) > _MOST_TOLD:
        fix = correct_entry_point(distribution.name, "correct the entry points above")
        subject = f"{len(skipped) - _MOST_TOLD:,} more of its entry points"
        yield Fault("declaration", origin, subject, "are ignored too", fix)


def _change(entry: Entry) -> str:
    meant = _meant_group(entry.group)
    if entry.group in _GROUPS:
        return "correct the entry point"
    if meant:
        return f"write its group as {meant!r}"
    return f"move it to a group {GROUP}<kind>, where <kind> is one of {', '.join(KINDS)},"


def _meant_group(group: str) -> str | None:
    """Return the group that a name nearly spells, or None if it probably belongs to another project."""
    plain = re.sub(r"[^a-z0-9]+", "_", group.casefold())
    beginning = _OURS.match(plain)
    if beginning is None:
        return None
    kind = plain[beginning.end() :]
    near_kinds = difflib.get_close_matches(kind, (*KINDS, "removed"), n=1, cutoff=_ALIKE)
    return GROUP + near_kinds[0] if near_kinds else f"{GROUP}<kind>" if not kind and beginning[1] else None


def _subject(entry: Entry) -> str:
    return f"entry point {entry.name!r} of group {entry.group!r}"


def copies(path: Sequence[str] | None = None) -> Iterator[Fault]:
    """Yield the plugins with several installed versions."""
    found: dict[str, dict[str, Metadata]] = {}
    for metadata in all_metadata(path):
        found.setdefault(metadata.key, {}).setdefault(os.path.realpath(metadata.origin), metadata)
    for name, of_one in found.items():
        if len(of_one) > 1:
            yield from (_impostors if name == BUILTIN else _copies)(tuple(of_one.values()))


def _impostors(of_one: Sequence[Metadata]) -> Iterator[Fault]:
    """Yield packages with the name of this package that are not this package."""
    own = built_in(of_one)
    assert own is not None
    here = version_of(BUILTIN)
    for other in of_one:
        try:
            if other is own or (other.header, {*other.entries("")}) == (own.header, {*own.entries("")}):
                continue
            version = other.header[1]
        except MetadataError:
            version = "(its metadata cannot be read)"
        problem = f"{other.origin} has the same name, but is not the package of argus_core: {version}"
        fix = f"delete {other.origin}, or give its package another name"
        yield Fault("copies", (f"{BUILTIN} {here}",), BUILTIN, problem, fix)


def _copies(of_one: Sequence[Metadata]) -> Iterator[Fault]:
    try:
        if not any(entry for metadata in of_one for entry in metadata.entries(GROUP)):
            return
        headers = [metadata.header for metadata in of_one]
    except MetadataError:
        return  # `declarations` reports unreadable metadata
    (name, version), *_ = headers
    if len({version for _, version in headers}) > 1:
        places = [f"{other} in {each.origin}" for each, (_, other) in zip(of_one, headers, strict=True)]
        where = " and ".join(diagnosis.some(places))
        hidden = " and ".join(diagnosis.some([each.origin for each in of_one[1:]]))
        fix = f"delete {hidden}, or pip uninstall {name} until no copy is left, and install it again"
        yield Fault(
            "copies", (f"{name} {version}",), name, f"is installed as {where}; the first is used", fix
        )


def ambiguous_names(components: Iterable[Component], index: Index) -> Iterator[Fault]:
    """Yield the short names that several packages provide, without a pin."""
    for (kind, name), unsorted in by_name(components).items():
        having = sorted(unsorted, key=lambda each: each.origin)
        if len(having) > 1 and (kind, name) not in index.pins.providers:
            _, fix = split_message(str(diagnosis.ambiguous(having)))
            origins = tuple(component.origin for component in having)
            problem = f"is provided by {' and '.join(diagnosis.some(origins))}, and no pin chooses one"
            yield Fault("ambiguous", origins, f"{kind} {name!r}", problem, fix)


def pins(index: Index) -> Iterator[Fault]:
    """Yield the pins that cannot be read or resolved; at most the first twenty."""
    if index.pins.fault:
        yield Fault("pin", (), "pyproject.toml", *split_message(index.pins.fault))
    registry, told = Registry(index), 0
    for kind, name in index.pins.providers:
        try:
            registry.find(kind, name)
        except ArgusError as error:
            subject = f"pin of {kind} {name!r} in {index.pins.path}"
            yield Fault("pin", (), subject, *split_message(str(error)))
            told += 1
        if told == _MOST_PINS:
            fix = "correct the pins above, and run the doctor again"
            yield Fault("pin", (), f"other pins in {index.pins.path}", "have not been checked", fix)
            return
