"""The installed packages, read from their metadata; none of them is imported."""

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
"""The distribution of `argus_core`: pip installs it under this name. It declares the built-in components."""

_PACKAGE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
_LARGEST_PTH = 2**16


class Installed(NamedTuple):
    """An installed package, and its entry points of the groups that were asked for."""

    name: str
    version: str
    entries: tuple[Entry, ...]


class Problem(NamedTuple):
    """A declaration or package that is left out of the index.

    Attributes:
        origin: the package, with its version if that is known.
        reason: the fault.
        folder: the folder of metadata that cannot be read, or ``""``.
    """

    origin: str
    reason: str
    folder: str = ""

    def __str__(self) -> str:
        return f"{self.origin}: {self.reason}"


def version_of(name: str) -> str | None:
    """Return the installed version of a package, or None if it is missing or unreadable."""
    return versions_of([name])[name]


@functools.cache
def own_version() -> str | None:
    """Return the version of this package; cached, since the imported code does not change."""
    return version_of(BUILTIN)


def versions_of(names: Collection[str]) -> dict[str, str | None]:
    """Return `version_of` for several packages; the installed metadata are listed once."""
    wanted = {normalised(name) for name in names}
    found: dict[str, list[Metadata]] = {}
    for each in all_metadata():
        if each.key in wanted:
            found.setdefault(each.key, []).append(each)
    return {name: _version(found.get(normalised(name), ())) for name in names}


def _version(found: Sequence[Metadata]) -> str | None:
    """Return the version of the copy that Python imports."""
    chosen = built_in(found) or next(iter(found), None)
    try:
        return None if chosen is None else chosen.header[1]
    except MetadataError:
        return None


def built_in(found: Sequence[Metadata]) -> Metadata | None:
    """Return the distribution of this package; another one may have the name `BUILTIN` too.

    It is the first of that name if their files do not decide it.
    """
    named = [each for each in found if each.key == BUILTIN]
    if len({os.path.realpath(each.origin) for each in named}) > 1:
        named.sort(key=lambda each: not _brings_this_package(each))
    return named[0] if named else None


def _brings_this_package(metadata: Metadata) -> bool:
    from urllib.parse import urlsplit  # lazy: two of that name are rare
    from urllib.request import url2pathname

    try:
        if os.path.realpath(os.path.dirname(metadata.origin)) == os.path.dirname(_PACKAGE):
            record = metadata.text("RECORD")
            return not record or f"{os.path.basename(_PACKAGE)}/__init__.py," in record
        if not _is_of_site(os.path.dirname(metadata.origin)):
            return False  # a foreign folder may claim to be an editable install of this package
        source = _editable_source(metadata.text("direct_url.json"))
    except MetadataError:
        return False
    folder = os.path.realpath(url2pathname(urlsplit(source).path)) if source.startswith("file://") else ""
    return _PACKAGE in (os.path.join(folder, "argus_core"), os.path.join(folder, "src", "argus_core"))


def _is_of_site(folder: str) -> bool:
    """Return whether Python reads the ``.pth`` files of a folder, as it does for editable packages."""
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
    """Make packages importable that were installed after this process started.

    Editable packages too, if they add a folder to ``sys.path``. One with an import hook needs a new process.
    """
    for folder in map(Path, site.getsitepackages()):
        if str(folder) in sys.path:
            _add_folders(folder)
    importlib.invalidate_caches()


def _add_folders(site_packages: Path) -> None:
    # Not site.addsitedir: it runs the code in .pth files again, and a coverage tool would start twice.
    for file in sorted(site_packages.glob("*.pth")):
        try:
            text = read_ordinary(file, _LARGEST_PTH).decode(errors="replace")
        except (OSError, ValueError):  # Python skips it too
            continue
        for line in text.splitlines():
            added = site_packages / line.strip()
            if line.strip() and str(added) not in sys.path and os.path.isdir(added):
                sys.path.append(str(added))


def installed(prefix: str, path: Sequence[str] | None = None) -> Iterator[Installed | Problem]:
    """Yield each installed package that has an entry point group beginning with ``prefix``.

    The first copy on ``path`` (``sys.path`` by default) hides later copies of the same name, as in imports;
    for `BUILTIN` it is the copy that this package comes from. A package that cannot be read is yielded as a
    `Problem`.
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
        except Exception as error:  # another tool's finder may raise anything
            reason = f"its metadata cannot be read, {type(error).__name__}: {error}"
            yield Problem(each.key, reason, each.origin)


def _installed(metadata: Metadata, prefix: str) -> Iterator[Installed]:
    entries = tuple(metadata.entries(prefix))
    if entries:
        name, version = metadata.header
        if name != metadata.key:  # otherwise it could declare components as another package
            raise MetadataError(f"the name is {name!r} in METADATA, but {metadata.key!r} in the folder")
        yield Installed(name, version, entries)
