"""The files to predict on: paths, folders and patterns, expanded in a fixed order."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field

from argus_core.data.readers import AbstractReader
from argus_core.errors import ArgusError
from argus_core.files.ordinary_files import as_path
from argus_core.prediction.readers import Readers

__all__ = ["Files", "find_files", "is_pattern"]


@dataclass
class Files:
    """The files to read, in order.

    Attributes:
        paths: as the user gave them, or below a folder that the user gave.
        readers: the reader of each path, `None` if no reader takes it.
        left_out: the number of files of folders and patterns that no reader takes, or the model cannot use.
    """

    paths: list[str] = field(default_factory=list)
    readers: list[AbstractReader | None] = field(default_factory=list)
    left_out: int = 0

    def fingerprint(self) -> str:
        """Return a digest of all paths, sizes and times of change."""
        digest = hashlib.sha256()
        for path in self.paths:
            try:
                status = os.stat(path)
                size, changed = status.st_size, status.st_mtime_ns
            except OSError:
                size = changed = -1
            digest.update(f"{path}\0{size}\0{changed}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def count(self) -> int | None:
        """Return the number of samples, as far as readers know it before they read; else ``None``."""
        total = 0
        for path, reader in zip(self.paths, self.readers, strict=True):
            try:
                count = None if reader is None else reader.count(path)
            except Exception:  # a damaged file is reported when its samples are read
                count = 0
            if reader is not None and count is None:
                return None
            total += count or 0
        return total


def find_files(given: Iterable[str | os.PathLike[str]], readers: Readers, sorts: Container[str]) -> Files:
    """Return the files that paths, folders and patterns stand for, each once.

    Args:
        given: in order; the files of a folder, and of those below it, and those of a pattern are sorted.
        readers: choose the reader of each.
        sorts: the sorts of samples that files of a folder must have.

    Raises:
        ArgusError: a path does not exist, a pattern fits no file, or a folder holds no file to read.
    """
    files, seen = Files(), set()
    for each in given:
        for path, is_listed in _expanded(os.fspath(each), readers, sorts, files):
            if path not in seen:
                seen.add(path)
                files.paths.append(path)
                files.readers.append(is_listed)
    if not files.paths:
        raise ArgusError("there are no files to predict on; give files, folders or patterns")
    return files


def is_pattern(text: str) -> bool:
    """Return whether a text is a pattern for paths, and not the path of a file itself."""
    return glob.has_magic(text) and not os.path.lexists(text)


def _expanded(
    text: str, readers: Readers, sorts: Container[str], files: Files
) -> Iterator[tuple[str, AbstractReader | None]]:
    try:
        text = str(as_path(text))
    except ValueError as error:
        raise ArgusError(f"{text!r} {error}") from error
    if os.path.isdir(text):
        yield from _in_folder(text, readers, sorts, files)
    elif is_pattern(text):
        found = sorted(glob.glob(text, recursive=True))
        if not found:
            raise ArgusError(f"the pattern {text!r} fits no file (from {os.getcwd()!r}); correct it")
        for path in found:
            if os.path.isdir(path):
                yield from _in_folder(path, readers, sorts, files, may_be_empty=True)
            elif len(found) > 1 and ((reader := readers.of(path)) is None or reader.sort not in sorts):
                files.left_out += 1
            else:
                yield path, readers.of(path)
    elif os.path.lexists(text):
        yield text, readers.of(text)
    else:
        raise ArgusError(f"no data file {text!r}; check the path")


def _in_folder(
    folder: str, readers: Readers, sorts: Container[str], files: Files, may_be_empty: bool = False
) -> Iterator[tuple[str, AbstractReader | None]]:
    is_empty = True
    for path in _walk(folder):
        reader = readers.of(path)
        if reader is None or reader.sort not in sorts:
            files.left_out += 1
        else:
            is_empty = False
            yield path, reader
    if is_empty and not may_be_empty:
        others = f" ({files.left_out} of other sorts)" if files.left_out else ""
        raise ArgusError(f"folder {folder!r} holds no file to predict on{others}; give another")


def _refuse(error: OSError) -> None:
    reason = error.strerror or error
    raise ArgusError(f"cannot read folder {error.filename!r}: {reason}; check its permissions")


def _walk(folder: str) -> Iterator[str]:
    """Yield the files in a folder and below, sorted; without hidden ones, and a folder by a link once."""
    seen: set[tuple[int, int]] = set()
    found: list[str] = []
    for place, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()  # by a link, perhaps without end
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [os.path.join(place, name) for name in names if not name.startswith(".")]
    yield from sorted(found)
