"""Zip archives on ``sys.path``: their members, read within limits of memory."""

from __future__ import annotations

import weakref
import zipfile
from collections.abc import Iterator

from argus_core.files.ordinary_files import open_ordinary

__all__ = ["Archive"]

_LARGEST_TABLE = 2**23
"""The largest table of contents that is read, in bytes: 70,000 files, and ten times as much memory."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1


class _Table:
    """A file that reads at most the largest table of contents at once."""

    def __init__(self, path: str) -> None:
        self._file = open_ordinary(path)
        self.seek, self.tell, self.seekable = self._file.seek, self._file.tell, self._file.seekable
        weakref.finalize(self, self._file.close)  # members are read until the archive is dropped

    def read(self, count: int = -1) -> bytes:
        if count > _LARGEST_TABLE:
            raise ValueError(f"has a table of contents of more than {_LARGEST_TABLE // 2**20} MiB")
        return self._file.read(_LARGEST_TABLE if count < 0 else count) or b""


class Archive(zipfile.ZipFile):
    """The members of an archive.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not an ordinary file, or is too large; the message begins with a verb.
        zipfile.BadZipFile: it is damaged, or is not an archive.
    """

    def __init__(self, path: str) -> None:
        super().__init__(_Table(path))

    def folders(self) -> Iterator[str]:
        """Yield the names of the top-level folders."""
        yield from dict.fromkeys(name.partition("/")[0] for name in self.NameToInfo)

    def beginning(self, name: str, folder: str, count: int) -> bytes | None:
        """Return the first bytes of a file in a folder, or None if it does not exist.

        Raises:
            ValueError: it is encrypted, or compressed in a way that Python does not import from.
        """
        info = self.NameToInfo.get(f"{folder}/{name}")
        if info is None:
            return None
        if info.flag_bits & _ENCRYPTED or info.compress_type not in _METHODS:
            raise ValueError("it is encrypted, or compressed in a way that Python does not import from")
        with self.open(info) as file:
            return file.read(count)
