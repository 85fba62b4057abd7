"""The examination of an installation: declarations, pins, and a trial import of every component."""

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

_MOST_PROCESSES = 4  # each may take a gigabyte


class Report(NamedTuple):
    """The result of `examine`.

    Attributes:
        faults: the faults, sorted by package.
        notes: remarks that are not faults.
        providers: the number of packages with loaded components.
        components: the number of loaded components.
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
    """Return the faults of the installed plugins and of the project's pins.

    This runs the plugins' code, in other processes.

    Args:
        providers: the normalised names of the packages to check; by default all.
        timeout: the seconds that importing one component may take.
        path: the folders with the packages, by default ``sys.path``.
        on_loaded: called with each loaded component, in the thread that loaded it.
    """
    index = read_index(path)
    chosen = [each for each in index.components if not providers or each.provider in providers]
    search = sys.path if path is None else [*path, *sys.path]
    first = [*unreadable(search)]  # importing torch fails because of these, so nothing is loaded
    loaded = [] if first else [each for each in chosen if not each.blocked_by]
    notes = [*switches_without_effect(index), *_blocked(chosen, index)]
    if first:
        notes.append("no component was loaded: torch cannot be imported before all entry points are readable")
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
    """Load components in a few threads, each of which loads those of one package at a time."""
    by_provider = [[*theirs] for _, theirs in groupby(components, key=lambda each: each.provider)]
    threads = max(1, min(_MOST_PROCESSES, os.cpu_count() or 1, len(by_provider)))
    with ThreadPoolExecutor(threads) as pool, trials:
        return [*chain.from_iterable(pool.map(lambda theirs: [*trials.of(theirs)], by_provider))]
