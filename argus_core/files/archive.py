"""Checks of archives in the format of `torch.save`, before torch reads them; torch is not imported.

torch's restricted unpickler runs no code, but it does not limit memory: a deflated entry can fill it, and so
can a pickle of a few bytes that calls ``bytearray(2**40)``.
"""

from __future__ import annotations

import os
import struct
import zipfile
from contextlib import nullcontext
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from argus_core.errors import CheckpointError, CorruptCheckpointError, UnsafeCheckpointError
from argus_core.files.pickle_check import check_pickle

__all__ = ["check_archive", "directory_size"]

# Bytes, enough for the pickle and the directory of 20,000 tensors; both take many times as much memory.
_MAX_PICKLE = 4 * 2**20
_MAX_DIRECTORY = 2 * 2**20
# Objects that a pickle may build, in addition to some for each entry (the data of a tensor).
_FREE_OBJECTS = 2**16
_OBJECTS_PER_ENTRY = 16

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")


def check_archive(file_path: Path, file: BinaryIO | None = None) -> None:
    """Check that a file is an archive that `torch.load` can read safely.

    Args:
        file_path: its path.
        file: the open file, if any; the path may lead to another one by now.

    Raises:
        CorruptCheckpointError: the file is damaged, or not an archive.
        UnsafeCheckpointError: it would expand in memory, or names objects that a state does not consist of.
    """
    try:
        with file_path.open("rb") if file is None else nullcontext(file) as opened:
            _check_directory(opened, file_path)
            size = opened.seek(0, os.SEEK_END)
            with zipfile.ZipFile(opened) as archive:
                _check_entries(archive, file_path, size)
                _check_pickles(archive, file_path)
    except CheckpointError:
        raise
    # The errors of zipfile and pickletools for damaged files.
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, struct.error) as error:
        raise CorruptCheckpointError(
            f"{file_path} is damaged, or older than torch 1.6's archive format ({error}); "
            "restore it, or save it again with a newer torch"
        ) from error


def directory_size(file: BinaryIO | FileIO) -> int:
    """Return the size of an archive's central directory in bytes; parsed, it takes ten times as much memory.

    Raises:
        zipfile.BadZipFile: two readers could find different directories.
        struct.error: the file is cut off.
    """
    end = file.seek(0, os.SEEK_END) - _END.size
    signature, *disks, _, size, start, comment = _END.unpack(_bytes_at(file, end, _END.size))
    if signature != b"PK\5\6" or comment:
        raise zipfile.BadZipFile("it does not end as an archive does")
    locator = end - _LOCATOR.size
    if locator >= 0 and _bytes_at(file, locator, 4) == b"PK\6\7":
        end = locator - _END_64.size
        _, _, place, _ = _LOCATOR.unpack(_bytes_at(file, locator, _LOCATOR.size))
        signature, length, _, _, *disks, _, size, start = _END_64.unpack(_bytes_at(file, end, _END_64.size))
        if signature != b"PK\6\6" or (length, place) != (_END_64.size - 12, end):
            raise zipfile.BadZipFile("it does not end as an archive does")
    if any(disks[:2]) or start + size != end:
        raise zipfile.BadZipFile("its table of contents is not where it should be")
    return int(size)


def _check_directory(file: BinaryIO, file_path: Path) -> None:
    size = directory_size(file)
    if size > _MAX_DIRECTORY:
        raise UnsafeCheckpointError(
            f"the table of contents of {file_path} takes {size:,} bytes, and {_MAX_DIRECTORY:,} is the most; "
            "do not load it"
        )


def _bytes_at(file: BinaryIO | FileIO, start: int, count: int) -> bytes:
    if start < 0:
        raise zipfile.BadZipFile("it is too short")
    file.seek(start)
    return file.read(count)


def _check_entries(archive: zipfile.ZipFile, file_path: Path, size: int) -> None:
    """Raise for an archive that would expand in memory, or whose entries are damaged."""
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        raise UnsafeCheckpointError(
            f"{file_path} is compressed or encrypted, which torch.save never does; do not load it"
        )
    if len({entry.filename for entry in entries}) < len(entries):
        raise UnsafeCheckpointError(f"{file_path} has two entries of one name; do not load it")
    claimed = sum(entry.file_size for entry in entries)
    if claimed > size or any(entry.file_size != entry.compress_size for entry in entries):
        raise UnsafeCheckpointError(f"{file_path} claims more data than it has; do not load it")
    damaged = archive.testzip()
    if damaged is not None:
        raise CorruptCheckpointError(f"{file_path} is damaged in {damaged!r}; restore it from a copy")


def _check_pickles(archive: zipfile.ZipFile, file_path: Path) -> None:
    entries = archive.infolist()
    for entry in entries:
        # torch ignores the case of entries' names.
        if not entry.filename.lower().endswith(".pkl"):
            continue
        if entry.file_size > _MAX_PICKLE:
            raise UnsafeCheckpointError(
                f"{entry.filename!r} in {file_path} takes {entry.file_size:,} bytes, "
                f"and {_MAX_PICKLE:,} is the most; do not load it"
            )
        check_pickle(archive.read(entry), _FREE_OBJECTS + _OBJECTS_PER_ENTRY * len(entries), str(file_path))
