"""The examination of all that is installed: declarations, pins, and every component loaded."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, groupby
from typing import NamedTuple

from argus_core.doctor import declarations
from argus_core.doctor.fault import Fault
from argus_core.doctor.isolation import Trials
from argus_core.doctor.unreadable import unreadable
from argus_core.registry.component import Component
from argus_core.registry.discovery import Index, read_index, switches_without_effect

__all__ = ["Report", "examine"]

_MOST_PROCESSES = 4  # a plugin may take a gigabyte for itself


class Report(NamedTuple):
    """What an examination found.

    Attributes:
        faults: what is wrong, by provider.
        notes: what is worth knowing and no fault.
        providers: how many providers' components were loaded.
        components: how many components were loaded.
    """

    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    providers: int
    components: int


def examine(
    providers: Collection[str] = (),
    timeout: float = 60.0,
    path: Sequence[str] | None = None,
    on_loaded: Callable[[Component], None] = lambda component: None,
) -> Report:
    """Return what is wrong with the plugins that are installed, and with the project's pins.

    This runs the plugins' code, in other processes than this one.

    Args:
        providers: the normalised names of those to look at, beside the project's pins; all if there are none.
        timeout: how many seconds one component may take to be imported.
        path: where to look for them, ``sys.path`` by default.
        on_loaded: called with each component that has been loaded, by whichever thread did it.
    """
    index = read_index(path)
    chosen = [each for each in index.components if not providers or each.provider in providers]
    search = sys.path if path is None else [*path, *sys.path]
    first = [*unreadable(search)]  # whatever is imported beside these may only fail for them
    loaded = [] if first else [each for each in chosen if not each.blocked_by]
    notes = [*switches_without_effect(index), *_blocked(chosen, index)]
    if first:
        notes.append("no component was loaded: without all entry points readable, torch cannot be imported")
    faults = [*declarations.declarations(path), *declarations.copies(path)]
    faults += [*declarations.ambiguous_names(index.components, index), *declarations.pins(index)]
    found = _try(loaded, Trials(search, timeout, on_loaded))
    faults += [each for each in found if each.sort]
    notes += [f"{each.subject} of {each.providers[0]}: {each.problem}" for each in found if not each.sort]
    told = {provider for fault in first for provider in fault.providers}
    concerned = [each for each in faults if _concerns(each, providers) and told.isdisjoint(_names(each))]
    ordered = (*first, *sorted(concerned, key=lambda fault: fault.providers))
    return Report(ordered, tuple(notes), len({each.provider for each in loaded}), len(loaded))


def _names(fault: Fault) -> set[str]:
    return {origin.partition(" ")[0] for origin in fault.providers}


def _concerns(fault: Fault, providers: Collection[str]) -> bool:
    return not providers or not fault.providers or not _names(fault).isdisjoint(providers)


def _blocked(components: Sequence[Component], index: Index) -> Iterator[str]:
    blocked = [each for each in components if each.blocked_by]
    for (origin, variable), theirs in groupby(blocked, key=lambda each: (each.origin, each.blocked_by)):
        yield f"{origin} is switched off by {variable}; {len([*theirs])} of its components were not loaded"


def _try(components: Sequence[Component], trials: Trials) -> list[Fault]:
    """Load components, one provider after the other in each of a few threads."""
    by_provider = [[*theirs] for _, theirs in groupby(components, key=lambda each: each.provider)]
    threads = max(1, min(_MOST_PROCESSES, os.cpu_count() or 1, len(by_provider)))
    with ThreadPoolExecutor(threads) as pool, trials:
        return [*chain.from_iterable(pool.map(lambda theirs: [*trials.of(theirs)], by_provider))]
