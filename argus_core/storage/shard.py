"""A shard of a folder: its header, compared with what the manifest says of it; without torch."""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from typing import Any

from argus_core.errors import CorruptCheckpointError, UnsafeCheckpointError
from argus_core.files.ordinary_files import MOST_COMPRESSED, allocated
from argus_core.storage.file import size_problem
from argus_core.storage.folder_manifest import FolderManifest, shard_name
from argus_core.storage.header import Header, check_length, parse

__all__ = ["OpenShard", "read_shard"]


@dataclass(frozen=True)
class OpenShard:
    """An open shard.

    Attributes:
        name: of its file.
        file: open.
        header: parsed and checked.
        offsets: where its pieces begin in their tensors, by name.
    """

    name: str
    file: FileIO
    header: Header
    offsets: dict[str, tuple[int, ...]]


def read_shard(file: FileIO, manifest: FolderManifest, number: int) -> OpenShard:
    """Return a shard whose header is the one that the manifest means.

    Args:
        file: open.
        manifest: of the folder.
        number: of the shard.

    Raises:
        CorruptCheckpointError: it is damaged, or a shard of another checkpoint.
        UnsafeCheckpointError: argus_core never writes such a shard.
    """
    name = shard_name(number, len(manifest.shards))
    size = os.fstat(file.fileno()).st_size
    data = _header_bytes(file, size)
    if zlib.crc32(data) != manifest.shards[number].crc:
        raise CorruptCheckpointError(
            f"the header of {name} is damaged (its checksum is wrong), or {name} is of another checkpoint; "
            "use another copy"
        )
    header = parse(data, size - len(data))
    if header.file_size != size:
        raise CorruptCheckpointError(f"{name}: {size_problem(header, size)}")
    told = {"save": manifest.save, "number": number, "of": len(manifest.shards)}
    if header.manifest.get("shard") != told:
        raise CorruptCheckpointError(f"{name} is a shard of another checkpoint; use another copy")
    return OpenShard(name, file, header, _offsets(header, name))


def _header_bytes(file: FileIO, size: int) -> bytes:
    file.seek(0)
    length = int.from_bytes(file.read(8) or b"", "little")
    if not 0 < length <= size - 8:
        return b""
    check_length(length, min(size - 8 - length, MOST_COMPRESSED * max(0, allocated(file) - length)))
    file.seek(0)
    data = b""
    while len(data) < 8 + length:
        part = file.read(8 + length - len(data))
        if not part:
            break
        data += part
    return data


def _offsets(header: Header, name: str) -> dict[str, tuple[int, ...]]:
    offsets: Any = header.manifest.get("offsets")
    if isinstance(offsets, dict) and offsets.keys() <= header.entries.keys():
        with suppress(TypeError, ValueError):
            return {tensor: _offset(value, header.entries[tensor].shape) for tensor, value in offsets.items()}
    raise UnsafeCheckpointError(f"the 'offsets' of {name} are not as argus_core writes them; do not trust it")


def _offset(value: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    if type(value) is not list or len(value) != len(shape):
        raise ValueError(value)
    if not all(type(begin) is int and begin >= 0 for begin in value):
        raise ValueError(value)
    return tuple(value)
