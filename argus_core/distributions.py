"""What is installed, read from metadata alone: nothing in here imports a package it reads about."""

from __future__ import annotations

import importlib
import re
import site
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

if sys.version_info >= (3, 12):
    from importlib import metadata
else:
    import importlib_metadata as metadata

__all__ = ["Entry", "Installed", "Problem", "installed", "normalised", "notice_new", "version_of"]

_HEADER = {field: re.compile(rf"^{field}:[ \t]*(\S+)", re.MULTILINE) for field in ("Name", "Version")}


class Entry(NamedTuple):
    """One line of an ``entry_points.txt``: ``name = value`` under ``[group]``."""

    group: str
    name: str
    value: str


class Installed(NamedTuple):
    """A distribution that declares entry points of the groups asked for."""

    name: str
    version: str
    entries: tuple[Entry, ...]


class Problem(NamedTuple):
    """Something in the installed metadata that was left out of the index, and why."""

    origin: str
    reason: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.reason}"


class _Distribution(Protocol):
    # What is used of importlib.metadata's, whose name for it depends on the version.
    def read_text(self, filename: str, /) -> str | None: ...


def normalised(name: str) -> str:
    """Return a distribution's name in the one spelling of PEP 503: ``Med_Seg`` is ``med-seg``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def version_of(name: str) -> str | None:
    """Return the installed version of a distribution, or None when it is not installed."""
    try:
        return metadata.version(name)
    except (metadata.PackageNotFoundError, ValueError):  # ValueError: no name at all
        return None


def notice_new() -> None:
    """Make packages that were installed since the process began importable.

    Editable ones too, if they are installed as a folder to look in; one that brings an import hook of its own
    needs a new process.
    """
    for folder in map(Path, site.getsitepackages()):
        if str(folder) in sys.path:
            _add_folders(folder)
    importlib.invalidate_caches()


def _add_folders(site_packages: Path) -> None:
    # Not site.addsitedir: that runs the code in .pth files once more, so a coverage tool starts twice.
    for file in sorted(site_packages.glob("*.pth")):
        for line in file.read_text("utf-8", errors="replace").splitlines():
            added = site_packages / line.strip()
            if line.strip() and str(added) not in sys.path and added.is_dir():
                sys.path.append(str(added))


def installed(prefix: str, path: Sequence[str] | None = None) -> Iterator[Installed | Problem]:
    """Yield each distribution with an entry point group that starts with ``prefix``, once.

    The first copy on ``path`` (``sys.path`` by default) hides later ones of the same name, as it does for
    imports. A distribution that cannot be read is yielded as a `Problem`, in its place.
    """
    seen: set[str] = set()
    for distribution in metadata.distributions() if path is None else metadata.distributions(path=list(path)):
        origin = str(distribution.locate_file(""))
        try:
            origin = key = _key(distribution)
            if key not in seen:
                seen.add(key)
                yield from _read(distribution, prefix)
        except Exception as error:
            yield Problem(origin, f"its metadata cannot be read, {error!r}")


def _key(distribution: _Distribution) -> str:
    # importlib.metadata tells copies apart by this attribute itself: it is read off the folder's name,
    # where the public name costs a parse of the whole METADATA, 0.3 ms for each of several hundred.
    return getattr(distribution, "_normalized_name", None) or _header(distribution)[0].replace("-", "_")


def _read(distribution: _Distribution, prefix: str) -> Iterator[Installed]:
    text = distribution.read_text("entry_points.txt") or ""
    if prefix in text:
        entries = tuple(entry for entry in _entries(text) if entry.group.startswith(prefix))
        if entries:
            yield Installed(*_header(distribution), entries)


def _header(distribution: _Distribution) -> tuple[str, str]:
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    name, version = (pattern.search(text) for pattern in _HEADER.values())
    if name is None or version is None:
        raise ValueError("METADATA lacks its Name or Version")
    return normalised(name[1]), version[1]


def _entries(text: str) -> Iterator[Entry]:
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1].strip()
        elif line and line[0] not in "#;":
            name, _, value = line.partition("=")
            yield Entry(group, name.strip(), value.strip())
