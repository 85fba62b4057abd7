"""What is installed, read from metadata alone: nothing in here imports a package it reads about."""

from __future__ import annotations

import importlib
import os
import re
import site
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

__all__ = [
    "Entry",
    "Installed",
    "Metadata",
    "Problem",
    "all_metadata",
    "installed",
    "normalised",
    "notice_new",
    "version_of",
]

_HEADER = {field: re.compile(rf"^{field}:[ \t]*(\S+)", re.MULTILINE) for field in ("Name", "Version")}
_ENOUGH = 2048  # bytes of METADATA: name and version are among its first lines


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
    """Something in the installed metadata that was left out of the index, and why.

    Attributes:
        origin: the distribution, with its version where that is known.
        reason: why it was left out.
        folder: where its metadata are, if they could not be read.
    """

    origin: str
    reason: str
    folder: str = ""

    def __str__(self) -> str:
        return f"{self.origin}: {self.reason}"


class _Source(Protocol):
    # What is used of importlib.metadata's Distribution, whose name for it depends on the version.
    def read_text(self, filename: str, /) -> str | None: ...


class _Folder:
    """A folder of metadata, read as importlib.metadata does and without importing that."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read_text(self, filename: str) -> str | None:
        data = self._read(filename)
        return None if data is None else data.decode()

    def read_lines(self, filename: str) -> str:
        """Return the whole lines at the beginning of a file, where what is looked for stands as a rule."""
        data = self._read(filename, _ENOUGH) or b""
        return data[: data.rfind(b"\n") + 1].decode(errors="replace")

    def _read(self, filename: str, most: int = -1) -> bytes | None:
        try:
            with open(f"{self.path}/{filename}", "rb", buffering=0) as file:
                return file.read(most)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError):
            return None


class Metadata:
    """The metadata of one installed distribution; read when it is asked for.

    Attributes:
        origin: the folder or archive that it is in.
    """

    def __init__(self, origin: str, source: _Source, key: str | None) -> None:
        self.origin = origin
        self._source = source
        self._key = key

    @property
    def key(self) -> str:
        """The name that tells copies apart, read off the folder's name where it can be."""
        return self._key or self.header[0]

    @property
    def header(self) -> tuple[str, str]:
        """The normalised name, and the version."""
        beginning = self._source.read_lines("METADATA") if isinstance(self._source, _Folder) else ""
        found = _name_and_version(beginning) or _name_and_version(self.core)
        if found is None:
            raise ValueError("METADATA lacks its Name or Version")
        return found

    @property
    def core(self) -> str:
        """The text of the core metadata."""
        return self._source.read_text("METADATA") or self._source.read_text("PKG-INFO") or ""

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Yield the entry points of the groups that start with ``prefix``."""
        text = self._source.read_text("entry_points.txt") or ""
        if prefix in text:
            yield from (entry for entry in _entries(text) if entry.group.startswith(prefix))


def normalised(name: str) -> str:
    """Return a distribution's name in the one spelling of PEP 503: ``Med_Seg`` is ``med-seg``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def version_of(name: str) -> str | None:
    """Return the installed version of a distribution, or None when it is not installed."""
    metadata = _metadata()
    try:
        version: str = metadata.version(name)
    except (metadata.PackageNotFoundError, ValueError):  # ValueError: no name at all
        return None
    return version


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
    for found in all_metadata(path):
        origin = os.path.dirname(found.origin)
        try:
            origin = key = found.key
            if key not in seen:
                seen.add(key)
                entries = tuple(found.entries(prefix))
                if entries:
                    yield Installed(*found.header, entries)
        except Exception as error:
            yield Problem(origin, f"its metadata cannot be read, {error!r}", found.origin)


def all_metadata(path: Sequence[str] | None = None) -> Iterator[Metadata]:
    """Yield the metadata of every distribution on ``path`` (``sys.path`` by default), copies too.

    In the order of importlib.metadata, which is not asked where folders can be listed: it takes several
    times as long.
    """
    for folder in map(os.fsdecode, sys.path if path is None else path):  # people put Paths there
        names = None if folder.endswith(".egg") else _listed(folder or os.curdir)
        if names is None:
            yield from _foreign(_metadata().distributions(path=[folder]))
            continue
        for name in names:
            stem, dot, suffix = name.rpartition(".")
            if dot and suffix.lower() in ("dist-info", "egg-info") and not stem.startswith("~"):
                key = normalised(stem.partition("-")[0])  # such as medseg of medseg-2.1.dist-info
                origin = os.path.join(folder, name)
                yield Metadata(origin, _Folder(origin), key)
    if path is None:
        for finder in sys.meta_path:  # a packager's own
            if hasattr(finder, "find_distributions") and not _is_of_importlib(finder):
                yield from _foreign(finder.find_distributions())


def _listed(folder: str) -> list[str] | None:
    """Return the names in a folder, none where there is no such thing; None for what is no folder."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, PermissionError, ValueError):  # ValueError: no path at all
        return []
    except OSError:  # an archive
        return None


def _is_of_importlib(finder: object) -> bool:
    module = (finder if isinstance(finder, type) else type(finder)).__module__
    return module.partition(".")[0] in ("_frozen_importlib_external", "importlib", "importlib_metadata")


def _foreign(distributions: Iterable[Any]) -> Iterator[Metadata]:
    for distribution in distributions:
        # importlib.metadata tells copies apart by this attribute itself.
        key = getattr(distribution, "_normalized_name", None)
        origin = str(getattr(distribution, "_path", None) or distribution.locate_file(""))
        yield Metadata(origin, distribution, key and normalised(key))


def _metadata() -> Any:
    # Only when needed: it takes a third of the time in which the command lists all components.
    return importlib.import_module(
        "importlib.metadata" if sys.version_info >= (3, 12) else "importlib_metadata"
    )


def _name_and_version(text: str) -> tuple[str, str] | None:
    name, version = (pattern.search(text) for pattern in _HEADER.values())
    return None if name is None or version is None else (normalised(name[1]), version[1])


def _entries(text: str) -> Iterator[Entry]:
    group = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line[:1] == "[" and line[-1] == "]":
            group = line[1:-1].strip()
        elif line and line[0] not in "#;":
            name, _, value = line.partition("=")
            yield Entry(group, name.strip(), value.strip())
