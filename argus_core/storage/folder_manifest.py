"""The manifest of a checkpoint in a folder of shards: rendering it, and parsing and checking it.

``manifest.json`` is the manifest of the whole folder, behind its CRC-32, as JSON that any program reads::

    {"argus_crc":"1a2b3c4d","argus":{"schema":1,...}}

The storage adds three sections. ``tensors`` holds each tensor's torch dtype, shape, memory format and place:
``"shard": 2`` is the one shard that holds it, ``"split": 0`` the dimension in which it is evenly split over
all shards; without either, all shards have to be looked at. ``aliases`` holds the other names of tensors that
are stored once. ``folder`` holds the number of the save, and the size and the header's CRC-32 of each shard.
No section holds a path: the names of shards follow from their numbers.

This module does not import torch.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from argus_core.errors import CorruptCheckpointError, UnsafeCheckpointError
from argus_core.storage.entry import Entry
from argus_core.storage.header import Header, aliases_in, form_in
from argus_core.storage.header import place as placed
from argus_core.storage.manifest import dumps, loads, migrate

__all__ = [
    "MANIFEST",
    "MOST_SHARDS",
    "OF_STORAGE",
    "SHARD_NAME",
    "FolderManifest",
    "Place",
    "Shard",
    "parse_folder",
    "render_folder",
    "shard_name",
]

MANIFEST = "manifest.json"
MOST_SHARDS = 2**16
SHARD_NAME = re.compile(r"[0-9]{5,}-of-[0-9]{5,}\.safetensors")
OF_STORAGE = ("tensors", "aliases", "folder")
"""The sections that the storage adds to a manifest."""

_CRC = re.compile(r"[0-9a-f]{8}")
_SAVE = re.compile(r"[0-9a-f]{32}")
_BEFORE, _BETWEEN, _AFTER = b'{"argus_crc":"', b'","argus":', b"}\n"
_START = len(_BEFORE) + 8 + len(_BETWEEN)
# The shards' bytes that let the manifest describe more tensors; each takes more than 100 in a shard's header.
_MOST_BESIDE = 2**24

Place = Mapping[str, int]
"""The place of a tensor: ``{"shard": number}``, ``{"split": dimension}``, or empty."""


@dataclass(frozen=True)
class Shard:
    """A shard in the manifest: its size in bytes, and the CRC-32 of its header."""

    size: int
    crc: int


@dataclass(frozen=True)
class FolderManifest:
    """A parsed manifest.

    Attributes:
        header: in the form of a file's; its offsets have no meaning.
        places: of the tensors, by name.
        save: the number of the save, in hexadecimal, which all shards repeat.
        shards: in order.
    """

    header: Header
    places: dict[str, Place]
    save: str
    shards: tuple[Shard, ...]


def shard_name(number: int, count: int) -> str:
    """Return the name of a shard's file."""
    return f"{number:05d}-of-{count:05d}.safetensors"


def render_folder(
    manifest: Mapping[str, Any],
    entries: Mapping[str, Entry],
    places: Mapping[str, Place],
    aliases: Mapping[str, str],
    save: str,
    shards: tuple[Shard, ...],
) -> bytes:
    """Return the bytes of a folder's manifest.

    Raises:
        ParamsError: it is too big, or holds values that JSON does not have.
    """
    payload = sum(shard.size for shard in shards)
    listed = [[shard.size, f"{shard.crc:08x}"] for shard in shards]
    added: tuple[Any, ...] = (
        {name: _as_json(entry) | dict(places[name]) for name, entry in entries.items()},
        dict(aliases),
        {"save": save, "shards": listed},
    )
    whole = {**manifest, **dict(zip(OF_STORAGE, added, strict=True))}
    text = dumps(whole, payload, min(payload, _MOST_BESIDE))
    return b"".join((_BEFORE, f"{zlib.crc32(text):08x}".encode("ascii"), _BETWEEN, text, _AFTER))


def parse_folder(data: bytes, payload: int) -> FolderManifest:
    """Return the manifest in the bytes of its file, compared with its CRC-32.

    Args:
        data: the bytes.
        payload: the bytes of the shards on the disk, which limit the size of the manifest.

    Raises:
        CorruptCheckpointError: it is damaged.
        UnsafeCheckpointError: argus_core never writes such a manifest.
        NewerCheckpointError: a newer argus_core wrote it.
    """
    text = data[_START : -len(_AFTER)]
    if data[:_START] != b"".join((_BEFORE, f"{zlib.crc32(text):08x}".encode("ascii"), _BETWEEN)) or (
        data[-len(_AFTER) :] != _AFTER
    ):
        raise CorruptCheckpointError("the manifest is damaged (its checksum is wrong); use another copy")
    manifest = migrate(loads(text, payload, min(payload, _MOST_BESIDE)))
    save, shards = _shards(manifest.get("folder"))
    entries, places = _tensors(manifest.get("tensors"), len(shards))
    size = sum(shard.size for shard in shards)
    if sum(entry.size for entry in entries.values()) > size:
        raise UnsafeCheckpointError(
            f"the manifest's tensors take more than the {size:,} bytes of all shards; do not trust this "
            "folder"
        )
    aliases = aliases_in(manifest.get("aliases"), entries)
    beside = len(data) + size - sum(entry.size for entry in entries.values())
    header = Header(manifest, placed(entries), aliases, payload_start=beside)
    return FolderManifest(header, places, save, shards)


def _shards(folder: Any) -> tuple[str, tuple[Shard, ...]]:
    match folder:
        case {"save": str(save), "shards": list(listed), **rest} if not rest and _SAVE.fullmatch(save):
            pass
        case _:
            raise _unlike("folder")
    if not 0 < len(listed) <= MOST_SHARDS:
        raise _unlike("folder")
    return save, tuple(map(_shard, listed))


def _shard(value: Any) -> Shard:
    match value:
        case [int(size), str(crc)] if size >= 0 and size is not True and _CRC.fullmatch(crc):
            return Shard(int(size), int(crc, 16))
    raise _unlike("folder")


def _tensors(tensors: Any, count: int) -> tuple[dict[str, Entry], dict[str, Place]]:
    if not isinstance(tensors, dict):
        raise _unlike("tensors")
    entries: dict[str, Entry] = {}
    places: dict[str, Place] = {}
    for name, tensor in tensors.items():
        match tensor:
            case {"dtype": str(dtype), "shape": list(shape), **rest}:
                pass
            case _:
                raise _unlike("tensors")
        place: dict[str, Any] = {str(key): value for key, value in rest.items()}
        memory_format = place.pop("memory_format", None)
        entries[name] = form_in(name, dtype, shape, memory_format)
        if not _is_place(place, len(shape), count):
            raise _unlike("tensors")
        places[name] = place
    return entries, places


def _is_place(place: Mapping[str, Any], dimensions: int, count: int) -> bool:
    match place:
        case {"shard": int(number), **rest}:
            return not rest and number is not True and number is not False and 0 <= number < count
        case {"split": int(dimension), **rest}:
            return not rest and type(dimension) is int and 0 <= dimension < dimensions
    return not place


def _as_json(entry: Entry) -> dict[str, Any]:
    described: dict[str, Any] = {"dtype": entry.dtype, "shape": list(entry.shape)}
    return described | ({"memory_format": entry.memory_format} if entry.memory_format else {})


def _unlike(section: str) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f"the manifest's {section!r} is not as argus_core writes it; do not trust this folder"
    )
