"""The metadata of installed packages, read within limits of size; no package is imported."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from argus_core.files.ordinary_files import read_beginning, read_ordinary
from argus_core.text import shown

__all__ = [
    "LARGEST",
    "Entry",
    "Metadata",
    "MetadataError",
    "all_metadata",
    "is_name",
    "is_version",
    "normalised",
    "read_metadata_file",
]

_HEADER = {field: re.compile(rf"^{field}:(.*)$", re.MULTILINE) for field in ("Name", "Version")}
_FORM = {  # of PEP 508; the version is looser than in PEP 440, as some real versions are
    "Name": re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,200}[A-Za-z0-9])?"),
    "Version": re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+*_~-]{0,200}"),
}
_ENOUGH = 2048  # bytes of METADATA: name and version are among its first lines
LARGEST = 2**20
"""The largest metadata file that is read, in bytes; a thousand entry points take 60,000."""
_SEPARATORS = re.compile("[-_.]+")
_LONGEST = 2000  # characters of a line of entry_points.txt


class MetadataError(ValueError):
    """The metadata of a package cannot be used; the message is the reason."""


class Entry(NamedTuple):
    """One line of an ``entry_points.txt``: ``name = value`` under ``[group]``."""

    group: str
    name: str
    value: str


_Read = Callable[[str], bytes | None]
"""Returns the content of a metadata file of one package, or None if it does not exist."""


class Metadata:
    """The metadata of one installed package; each file is read on use.

    Attributes:
        origin: the folder or archive with the metadata.
        key: the normalised name of the package, from the name of the folder.
    """

    def __init__(self, origin: str, read: _Read, key: str, *, is_folder: bool = False) -> None:
        self.origin = origin
        self.key = key
        self._read = read
        self._is_folder = is_folder

    @property
    def header(self) -> tuple[str, str]:
        """The normalised name, and the version.

        Raises:
            MetadataError: they are missing, invalid or cannot be read.
        """
        beginning = b""
        if self._is_folder:  # whole lines at the beginning, which usually contain both
            beginning = read_metadata_file(f"{self.origin}/METADATA", _ENOUGH) or b""
        lines = beginning[: beginning.rfind(b"\n") + 1].decode(errors="replace")
        found = _name_and_version(lines) or _name_and_version(self.core)
        if found is None:
            raise MetadataError("METADATA lacks its Name or Version")
        return found

    @property
    def core(self) -> str:
        """The text of the core metadata file."""
        return self.text("METADATA") or self.text("PKG-INFO")

    def text(self, filename: str) -> str:
        """Return the text of a metadata file, ``""`` if it does not exist.

        Raises:
            MetadataError: it is not an ordinary file, too large, or not UTF-8.
        """
        try:
            return (self._read(filename) or b"").decode()
        except UnicodeDecodeError as error:
            raise MetadataError(f"{filename} is not UTF-8 at byte {error.start}") from error

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Yield the entry points of the groups that start with ``prefix``."""
        text = self.text("entry_points.txt")
        if prefix in text:
            yield from _entries(text, prefix)


def is_name(text: str) -> bool:
    """Return whether text has the form of a package name."""
    return _FORM["Name"].fullmatch(text) is not None


def is_version(text: str) -> bool:
    """Return whether text has the form of a version."""
    return _FORM["Version"].fullmatch(text) is not None


def normalised(name: str) -> str:
    """Return the name of a package as PEP 503 normalises it: ``med-seg`` for ``Med_Seg``."""
    return _SEPARATORS.sub("-", name).lower()


def read_metadata_file(path: str, count: int | None = None) -> bytes | None:
    """Return a file, or its first ``count`` bytes; None if it does not exist or this user may not read it.

    Raises:
        MetadataError: it is not an ordinary file, or too large.
    """
    try:
        return read_ordinary(path, LARGEST) if count is None else read_beginning(path, count)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except (OSError, ValueError) as error:
        reason = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise MetadataError(f"{os.path.basename(path)} {reason}") from error


def all_metadata(path: Sequence[str] | None = None) -> Iterator[Metadata]:
    """Yield the metadata of every package on ``path`` (``sys.path`` by default), copies too.

    The order is that of importlib.metadata, which is not used: it takes several times as long, and has no
    limit of memory for archives.
    """
    for folder in map(os.fsdecode, sys.path if path is None else path):  # it may hold Path objects
        names = _listed(folder or os.curdir)
        if names is None:
            yield from _in_archive(folder)
            continue
        for name in names:
            if _is_metadata(name, folder):
                origin = os.path.join(folder, name)
                read = partial(_in_folder, origin)
                yield _named(Metadata(origin, read, _key(name), is_folder=True))
    if path is None:
        for finder in sys.meta_path:  # another tool's finder
            if hasattr(finder, "find_distributions") and not _is_of_importlib(finder):
                yield from _foreign(finder.find_distributions())


def _listed(folder: str) -> list[str] | None:
    """Return the names in a folder, or none if it cannot be read; None if the path is not a folder."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, PermissionError, ValueError):  # ValueError: not a path
        return []
    except OSError:  # an archive
        return None


def _in_archive(path: str) -> Iterator[Metadata]:
    from argus_core.registry.metadata_archive import Archive  # lazy: archives on the path are rare

    try:
        archive = Archive(path)
    except ValueError as error:
        if os.path.isfile(path):
            yield Metadata(path, partial(_unreadable, f"{path} {error}"), os.path.basename(path))
        return
    except Exception:  # damaged, or not an archive: Python skips it too
        return
    for name in archive.folders():
        if _is_metadata(name, path):
            read = partial(_guarded, partial(archive.beginning, folder=name, count=LARGEST + 1))
            yield _named(Metadata(os.path.join(path, name), read, _key(name)))


def _is_metadata(name: str, folder: str) -> bool:
    """Return whether an entry of a folder or archive is the metadata of a package."""
    lowered = name.lower()
    if lowered.endswith((".dist-info", ".egg-info")):
        return not name.startswith("~")  # left by an interrupted installation
    return lowered == "egg-info" and folder.lower().endswith(".egg")


def _key(name: str) -> str:
    return normalised(name.rpartition(".")[0].partition("-")[0])


def _named(found: Metadata) -> Metadata:
    """Return metadata with its key set; the folder of an egg does not have the package's name."""
    if not found.key:
        try:
            found.key = found.header[0]
        except MetadataError:
            found.key = os.path.basename(found.origin)
    return found


def _in_folder(folder: str, filename: str) -> bytes | None:
    return read_metadata_file(f"{folder}/{filename}")


def _unreadable(reason: str, filename: str) -> bytes | None:
    raise MetadataError(reason)


def _guarded(read: _Read, filename: str) -> bytes | None:
    """Read a file through another tool's finder or from an archive; either may raise anything."""
    try:
        data = read(filename)
    except MetadataError:
        raise
    except Exception as error:  # such as a damaged or encrypted archive
        raise MetadataError(f"{filename} cannot be read: {_one_line(error)}") from error
    if data is not None and len(data) > LARGEST:
        raise MetadataError(f"{filename} is larger than {LARGEST // 2**10:,} KiB")
    return data


def _is_of_importlib(finder: object) -> bool:
    module = (finder if isinstance(finder, type) else type(finder)).__module__
    return module.partition(".")[0] in ("_frozen_importlib_external", "importlib", "importlib_metadata")


def _foreign(distributions: Iterable[Any]) -> Iterator[Metadata]:
    for distribution in distributions:
        origin = str(getattr(distribution, "_path", None) or distribution.locate_file(""))
        try:
            # importlib.metadata itself finds copies by this attribute.
            key = normalised(distribution._normalized_name)
        except Exception:  # the name is missing or unreadable: `header` raises the reason
            key = os.path.basename(origin)
        yield Metadata(origin, partial(_guarded, partial(_file_of, distribution)), key)


def _file_of(distribution: Any, filename: str) -> bytes | None:
    path: Any = getattr(distribution, "_path", None)
    if isinstance(path, os.PathLike):
        return read_metadata_file(os.path.join(path, filename))
    return (distribution.read_text(filename) or "").encode()


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}"[:200].split())


def _name_and_version(text: str) -> tuple[str, str] | None:
    found = {field: pattern.search(text) for field, pattern in _HEADER.items()}
    values = {field: match[1].strip() for field, match in found.items() if match and match[1].strip()}
    if len(values) < len(found):
        return None
    for field, value in values.items():
        if not _FORM[field].fullmatch(value):
            raise MetadataError(f"METADATA has {field}: {shown(value)}, which is not a valid {field.lower()}")
    return normalised(values["Name"]), values["Version"]


def _entries(text: str, prefix: str) -> Iterator[Entry]:
    group, is_wanted = "", not prefix
    lines = [*map(str.strip, text.splitlines())]
    if max(map(len, lines), default=0) > _LONGEST:
        number, line = next(item for item in enumerate(lines, 1) if len(item[1]) > _LONGEST)
        raise MetadataError(f"line {number} of entry_points.txt has {len(line):,} characters")
    for line in lines:
        if line[:1] == "[" and line[-1] == "]":
            group = line[1:-1].strip()
            is_wanted = group.startswith(prefix)
        elif is_wanted and line and line[0] not in "#;":
            name, _, value = line.partition("=")
            yield Entry(group, name.strip(), value.strip())
