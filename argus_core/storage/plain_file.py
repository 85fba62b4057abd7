"""Reading a plain safetensors file: tensors without a manifest, as other programs write them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from torch import Tensor

from argus_core.errors import CheckpointError, CorruptCheckpointError, UnsafeCheckpointError
from argus_core.files.ordinary_files import MOST_COMPRESSED, allocated, read_beginning
from argus_core.storage.entry import STORED_AS, Entry, is_shape, name_problem
from argus_core.storage.file import open_file
from argus_core.storage.header import Header, check_length
from argus_core.storage.reader import read_payload
from argus_core.storage.text import BEFORE

__all__ = ["is_plain_file", "read_plain", "unchanged"]

_METADATA = "__metadata__"
_FREE = 8 * 2**20  # bytes that the tensors of even a sparse file may take
# torch's dtype for each of safetensors'; the first of several with one stored form.
_DTYPES = {code: name for name, (code, element) in reversed(STORED_AS.items()) if not element}


def is_plain_file(path: Path) -> bool:
    """Return whether a file, which may be missing, begins as safetensors without a manifest of ours."""
    try:
        start = read_beginning(path, 8 + len(BEFORE))
    except (OSError, ValueError):
        return False
    return start[8:9] == b"{" and start[8:] != BEFORE


def read_plain(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a plain safetensors file by name, on the CPU.

    Raises:
        CorruptCheckpointError: the file is damaged, or was written to meanwhile.
        UnsafeCheckpointError: it claims more memory than it has bytes, or has names that it must not have.
        CheckpointError: the file is missing, cannot be read, or holds a dtype that torch lacks.
    """
    with open_file(path) as file, unchanged(file, path):
        try:
            header = _header(file)
            return read_payload(file, header, {*header.entries}, "cpu", verify=False, into={})
        except CheckpointError as error:
            raise type(error)(f"{path}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise CorruptCheckpointError(
                f"{path} is not a safetensors file, or is damaged ({' '.join(str(error)[:200].split())}); "
                "use another copy"
            ) from error


@contextmanager
def unchanged(file: FileIO, path: Path) -> Iterator[None]:
    """Check that nothing writes to a file while the block reads it: its format has no checksums of its own.

    Raises:
        CorruptCheckpointError: something has written to it.
    """
    before = _last_write(file)
    yield
    if _last_write(file) != before:
        raise CorruptCheckpointError(
            f"{path} was written to while it was read; wait until it is complete, and read it again"
        )


def _last_write(file: FileIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _header(file: FileIO) -> Header:
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8) or b"", "little")
    if not 2 <= length <= size - 8:
        raise ValueError("it is cut off in the header")
    payload = size - 8 - length
    check_length(length, payload)
    table = json.loads(file.read(length) or b"", object_pairs_hook=_without_doubles)
    metadata = table.pop(_METADATA, {}) if isinstance(table, dict) else None
    if not isinstance(metadata, dict) or {"argus", "argus_crc"} & metadata.keys():
        raise ValueError("its header is damaged")
    entries = {name: _entry(name, value) for name, value in table.items()}
    ordered = sorted(entries.items(), key=lambda item: (item[1].start, item[1].end))
    end = 0
    for name, entry in ordered:
        if entry.start != end:
            raise ValueError(f"tensor {name!r} does not follow the one before it")
        end = entry.end
    if end != payload:
        raise ValueError(f"its tensors take {end:,} bytes, and it has {payload:,}")
    if end > _FREE + MOST_COMPRESSED * allocated(file):
        raise UnsafeCheckpointError(
            f"its tensors claim {end:,} bytes, and the disk holds {allocated(file):,} of the file; do not "
            "trust it, or copy it without holes if you do (cp --sparse=never)"
        )
    return Header({}, dict(ordered), {}, payload_start=8 + length)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("its header has two entries of one name")
    return table


def _entry(name: str, value: Any) -> Entry:
    if problem := name_problem(name):
        raise UnsafeCheckpointError(f"tensor {name[:200]!r} {problem}; do not trust this file")
    match value:
        case {"dtype": str(code), "shape": list(shape), "data_offsets": [int(start), int(end)]}:
            pass
        case _:
            raise ValueError(f"tensor {name[:200]!r} has no dtype, shape and place")
    if code not in _DTYPES:
        raise CheckpointError(
            f"tensor {name[:200]!r} has the dtype {code[:40]!r}, which torch cannot read; save it in another"
        )
    if not is_shape(shape, _DTYPES[code]):
        raise ValueError(f"tensor {name[:200]!r} has an impossible shape")
    entry = Entry(_DTYPES[code], tuple(shape), start=start)
    if entry.end != end:
        raise ValueError(
            f"tensor {name[:200]!r} takes {entry.size:,} bytes, and its place has {end - start:,}"
        )
    return entry
