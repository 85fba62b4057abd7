"""What is installed, read from metadata alone: nothing in here imports a package it reads about."""

from __future__ import annotations

import functools
import importlib
import os
import site
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from argus_core.files.ordinary_files import read_ordinary
from argus_core.registry.metadata import Entry, Metadata, MetadataError, all_metadata, normalised

__all__ = [
    "BUILTIN",
    "Installed",
    "Problem",
    "built_in",
    "installed",
    "notice_new",
    "own_version",
    "version_of",
    "versions_of",
]

BUILTIN = "argus-torch"
"""The distribution that declares the built-in components: the one that this package is from."""

_PACKAGE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
_LARGEST_PTH = 2**16


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


def version_of(name: str) -> str | None:
    """Return the installed version of a distribution, or None when it is not installed or cannot be read."""
    return versions_of([name])[name]


@functools.cache
def own_version() -> str | None:
    """Return the version of this package, whose code stays what it was when it was imported."""
    return version_of(BUILTIN)


def versions_of(names: Collection[str]) -> dict[str, str | None]:
    """Return what `version_of` tells of each of several distributions; their metadata are listed once."""
    wanted = {normalised(name) for name in names}
    found: dict[str, list[Metadata]] = {}
    for each in all_metadata():
        if each.key in wanted:
            found.setdefault(each.key, []).append(each)
    return {name: _version(found.get(normalised(name), ())) for name in names}


def _version(found: Sequence[Metadata]) -> str | None:
    """Return the version of what counts among the copies of a distribution."""
    chosen = built_in(found) or next(iter(found), None)
    try:
        return None if chosen is None else chosen.header[1]
    except MetadataError:
        return None


def built_in(found: Sequence[Metadata]) -> Metadata | None:
    """Return which of several distributions this package is from: another may call itself `BUILTIN` too.

    The first of that name where their files do not tell.
    """
    named = [each for each in found if each.key == BUILTIN]
    if len({os.path.realpath(each.origin) for each in named}) > 1:
        named.sort(key=lambda each: not _brings_this_package(each))
    return named[0] if named else None


def _brings_this_package(metadata: Metadata) -> bool:
    from urllib.parse import urlsplit  # there is hardly ever more than one
    from urllib.request import url2pathname

    try:
        if os.path.realpath(os.path.dirname(metadata.origin)) == os.path.dirname(_PACKAGE):
            record = metadata.text("RECORD")
            return not record or f"{os.path.basename(_PACKAGE)}/__init__.py," in record
        if not _is_of_site(os.path.dirname(metadata.origin)):
            return False  # anyone may write that an editable package of theirs is this one
        source = _editable_source(metadata.text("direct_url.json"))
    except MetadataError:
        return False
    folder = os.path.realpath(url2pathname(urlsplit(source).path)) if source.startswith("file://") else ""
    return _PACKAGE in (os.path.join(folder, "argus_core"), os.path.join(folder, "src", "argus_core"))


def _is_of_site(folder: str) -> bool:
    """Return whether Python reads the ``.pth`` files of a folder, which editable packages are imported by."""
    folders = [*site.getsitepackages(), site.getusersitepackages()]
    return os.path.realpath(folder) in map(os.path.realpath, folders)


def _editable_source(direct_url: str) -> str:
    import json

    try:
        document = json.loads(direct_url or "{}")
    except (ValueError, RecursionError) as error:
        raise MetadataError("direct_url.json is not JSON") from error
    url = document.get("url") if isinstance(document, dict) else None
    return url if isinstance(url, str) else ""


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
        try:
            text = read_ordinary(file, _LARGEST_PTH).decode(errors="replace")
        except (OSError, ValueError):  # Python itself passes over what it cannot read there
            continue
        for line in text.splitlines():
            added = site_packages / line.strip()
            if line.strip() and str(added) not in sys.path and os.path.isdir(added):
                sys.path.append(str(added))


def installed(prefix: str, path: Sequence[str] | None = None) -> Iterator[Installed | Problem]:
    """Yield each distribution with an entry point group that starts with ``prefix``, once.

    The first copy on ``path`` (``sys.path`` by default) hides later ones of the same name, as it does for
    imports; of `BUILTIN` the one counts that this package is from. A distribution that cannot be read is
    yielded as a `Problem`, in its place.
    """
    found = [*all_metadata(path)]
    seen: set[str] = set()
    own = built_in(found)
    for each in found:
        if each.key in seen or (each.key == BUILTIN and each is not own):
            continue
        seen.add(each.key)
        try:
            yield from _installed(each, prefix)
        except MetadataError as error:
            yield Problem(each.key, f"its metadata cannot be read, {error}", each.origin)
        except Exception as error:  # of a packager's own finder
            reason = f"its metadata cannot be read, {type(error).__name__}: {error}"
            yield Problem(each.key, reason, each.origin)


def _installed(metadata: Metadata, prefix: str) -> Iterator[Installed]:
    entries = tuple(metadata.entries(prefix))
    if entries:
        name, version = metadata.header
        if name != metadata.key:  # or it could declare components in the name of another
            raise MetadataError(f"METADATA has the name {name!r}, and the folder {metadata.key!r}")
        yield Installed(name, version, entries)
