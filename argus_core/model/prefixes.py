"""The prefixes of names: the change of them with which the names of a file are those of a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

__all__ = ["suggested_rename"]

_DEEPEST = 3  # modules in a prefix
_MOST = 200  # prefixes of each side, and names of the file whose prefixes are tried


def suggested_rename(stored: Mapping[str, str], built: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the pattern of the file's names, and of the network's, with which most of their tensors agree.

    ``("module.*", "*")``, for example, for a file that DataParallel wrote; ``None`` where none agree.

    Args:
        stored: the form of each tensor of the file by name; see `module_state.form_of`.
        built: the same of the network.
    """
    best, most = None, 0
    places = _prefixes(built)
    for head in _prefixes(islice(stored, _MOST)):
        rests = [(name[len(head) :], form) for name, form in stored.items() if name.startswith(head)]
        if len(rests) <= most:
            continue
        for place in places:
            count = sum(built.get(place + rest) == form for rest, form in rests)
            if count > most:
                best, most = (f"{head}*", f"{place}*"), count
    return best


def _prefixes(names: Iterable[str]) -> list[str]:
    """Return the beginnings of names that end with a point, the shortest first."""
    found = dict.fromkeys(prefix for name in names for prefix in _of_one(name))
    return sorted(found, key=lambda prefix: prefix.count("."))[:_MOST]


def _of_one(name: str) -> Iterator[str]:
    parts = name.split(".", _DEEPEST)
    return (".".join([*parts[:count], ""]) if count else "" for count in range(len(parts)))
