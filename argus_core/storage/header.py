"""The header of a checkpoint file: rendering it from a manifest, and parsing and checking it.

A header's checksum is verified before its contents are used; then all of it is compared with the bytes that
the manifest determines. This module does not import torch.
"""

from __future__ import annotations

import functools
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, BinaryIO, NoReturn

from argus_core.errors import CheckpointError, CorruptCheckpointError, UnsafeCheckpointError
from argus_core.storage.crc import chunk_count
from argus_core.storage.entry import MEMORY_FORMATS, STORED_AS, Entry, is_shape, name_problem
from argus_core.storage.manifest import canonical, dumps, loads, migrate, most_bytes
from argus_core.storage.text import AFTER, BEFORE, HeaderBytes, checksum, escaped, verify_text

__all__ = [
    "Header",
    "aliases_in",
    "check_length",
    "form_in",
    "parse",
    "place",
    "render",
    "render_plain",
    "verify_header",
]

_ALIGNMENT = 8

# The most bytes of a foreign header that are parsed: parsing takes a dozen times as much memory.
_FOREIGN = 2**20

# Entries of the table that are rendered or compared at a time.
_AT_ONCE = 1024

_HEX = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True)
class Header:
    """The parsed header of a checkpoint: everything before its payload.

    Attributes:
        manifest: in the current schema.
        entries: the stored tensors by name, in the order of the file.
        aliases: other names of stored tensors.
        payload_start: the offset of the payload in the file, in bytes.
    """

    manifest: dict[str, Any]
    entries: dict[str, Entry]
    aliases: dict[str, str]
    payload_start: int

    @functools.cached_property
    def file_size(self) -> int:
        """The size of the whole file, in bytes."""
        return self.payload_start + sum(entry.size for entry in self.entries.values())


def place(entries: dict[str, Entry]) -> dict[str, Entry]:
    """Return entries with their offsets set, one after the other without holes."""
    placed: dict[str, Entry] = {}
    start = 0
    for name, entry in entries.items():
        placed[name] = replace(entry, start=start)
        start = placed[name].end
    return placed


def render(manifest: dict[str, Any], entries: dict[str, Entry], aliases: dict[str, str]) -> bytes:
    """Return the file's first bytes, up to the payload.

    Raises:
        ParamsError: the manifest is too big, or holds values that JSON does not have.
    """
    tensors = {name: _as_json(entry) for name, entry in entries.items()}
    payload = sum(entry.size for entry in entries.values())
    table = b"".join(_table(entries))
    return _render(dumps({**manifest, "tensors": tensors, "aliases": aliases}, payload, len(table)), table)


def render_plain(entries: dict[str, Entry]) -> bytes:
    """Return the first bytes of a safetensors file without a manifest, up to the payload."""
    return _padded([b'{"__metadata__":{"format":"pt"}', *_table(entries)])


def parse(data: bytes, payload: int = 0) -> Header:
    """Return the header in a file's first bytes, up to the payload; see `verify_header`."""
    return verify_header(io.BytesIO(data), len(data), payload)


def verify_header(file: BinaryIO | io.FileIO, size: int, payload: int) -> Header:
    """Read the header in a file's first bytes, and compare it with its CRC-32 and its manifest.

    Args:
        file: at its beginning.
        size: of the header in bytes, including its length field.
        payload: the number of bytes after it on the disk, which limits the size of the manifest.

    Raises:
        CheckpointError: the file is not an argus checkpoint.
        CorruptCheckpointError: the header is damaged.
        UnsafeCheckpointError: argus_core never writes such a header.
        NewerCheckpointError: a newer argus_core wrote the file.
    """
    check_length(size - 8, payload)
    source = HeaderBytes(file, size)
    length = int.from_bytes(source.take(8), "little")
    start = source.take(len(BEFORE))
    if start != BEFORE:
        _refuse_without_manifest(start + source.take(_FOREIGN))
    crc, manifest = _manifest(source, payload)
    manifest = migrate(manifest)
    entries = _entries(manifest.get("tensors"))
    aliases = aliases_in(manifest.get("aliases"), entries)
    if length != size - 8 or not _is_rest(source, chain([_after(crc)], _table(entries))):
        raise CorruptCheckpointError("the header is damaged (it contradicts the manifest); use another copy")
    return Header(manifest, entries, aliases, payload_start=size)


def check_length(length: int, payload: int) -> None:
    """Check that a header is no longer than argus_core writes for ``payload`` bytes of tensors.

    Raises:
        UnsafeCheckpointError: the header is longer.
    """
    # As a JSON string a manifest is a little longer, and the table of tensors is at most as long.
    most = most_bytes(payload) * 5 // 2
    if length > most:
        raise UnsafeCheckpointError(
            f"the header takes {length:,} bytes, and {most:,} is the most; do not trust this file"
        )


def _render(text: bytes, table: bytes) -> bytes:
    return _padded([BEFORE, escaped(text), _after(checksum(zlib.crc32(text))), table])


def _padded(parts: list[bytes]) -> bytes:
    parts.append(b" " * (-sum(map(len, parts)) % _ALIGNMENT))
    return b"".join((sum(map(len, parts)).to_bytes(8, "little"), *parts))


def _after(crc: bytes) -> bytes:
    """Return the bytes between the manifest and the table of tensors in the header."""
    return AFTER + crc + b'","format":"pt"}'


def _table(entries: dict[str, Entry]) -> Iterator[bytes]:
    """Yield the table of tensors in safetensors' form, up to the padding."""
    items = iter(entries.items())
    while some := {name: _as_safetensors(entry) for name, entry in islice(items, _AT_ONCE)}:
        yield b"," + canonical(some)[1:-1]
    yield b"}"


def _manifest(source: HeaderBytes, payload: int) -> tuple[bytes, dict[str, Any]]:
    """Return the manifest's checksum and the parsed manifest, without keeping its text in memory."""
    text = verify_text(source, payload)
    manifest = loads(text, payload, source.left)
    after = source.take(len(AFTER) + 8)
    source.give_back(after)
    return after[len(AFTER) :], manifest


def _is_rest(source: HeaderBytes, parts: Iterable[bytes]) -> bool:
    """Return whether the source's remaining bytes are these parts and their padding."""
    if not all(source.take(len(part)) == part for part in parts):
        return False
    expected = -source.taken % _ALIGNMENT
    return source.left == expected and source.take(expected) == b" " * expected


def _refuse_without_manifest(data: bytes) -> NoReturn:
    if _is_foreign(data):
        raise CheckpointError(
            "not an argus checkpoint: a safetensors file without a manifest; read it with "
            "safetensors.torch.load_file"
        )
    raise CorruptCheckpointError("the header is damaged (it holds no manifest); use another copy")


def _is_foreign(data: bytes) -> bool:
    # A single damaged bit cannot change both keys.
    if b'"argus":' in data or b'"argus_crc":' in data or len(data) > _FOREIGN:
        return False
    try:
        return isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False


def _entries(tensors: object) -> dict[str, Entry]:
    if not isinstance(tensors, dict):
        raise UnsafeCheckpointError("the manifest holds no table of tensors; do not trust this file")
    entries: dict[str, Entry] = {}
    start = 0
    for name, tensor in tensors.items():
        entries[name] = _entry(name, tensor, start)
        start = entries[name].end
    return entries


def _entry(name: str, tensor: Any, start: int) -> Entry:
    match tensor:
        case {"dtype": str(dtype), "shape": list(shape), "crc": list(sums), **rest}:
            pass
        case _:
            raise _unsafe(name, "lacks a dtype, a shape or checksums")
    if not all(isinstance(value, str) and _HEX.fullmatch(value) for value in sums):
        raise _unsafe(name, "has checksums that are none")
    crcs = tuple([int(value, 16) for value in sums])
    entry = form_in(name, dtype, shape, rest.get("memory_format"), crcs, start)
    if len(sums) != chunk_count(entry.size):
        raise _unsafe(name, "has too many checksums or too few")
    return entry


def form_in(
    name: str,
    dtype: str,
    shape: list[Any],
    memory_format: Any,
    crcs: tuple[int, ...] = (),
    start: int = 0,
) -> Entry:
    """Return the entry of a tensor that a manifest describes.

    Raises:
        CheckpointError: no tensor has such a name or form.
    """
    if problem := name_problem(name):
        raise _unsafe(name, problem)
    if dtype not in STORED_AS:
        raise CheckpointError(f"tensor {name!r} has the unknown dtype {dtype[:40]!r}; upgrade argus-torch")
    if memory_format is not None and MEMORY_FORMATS.get(str(memory_format)) != len(shape):
        raise _unsafe(name, "has a memory format that its shape cannot have")
    if not is_shape(shape, dtype):
        raise _unsafe(name, "has an impossible shape")
    return Entry(dtype, tuple(shape), memory_format, crcs, start)


def aliases_in(aliases: object, entries: dict[str, Entry]) -> dict[str, str]:
    """Return the aliases that a manifest holds.

    Raises:
        UnsafeCheckpointError: one is not a name, or does not stand for a tensor.
    """
    if not isinstance(aliases, dict):
        raise UnsafeCheckpointError("the manifest holds no table of aliases; do not trust this file")
    for alias, name in aliases.items():
        if problem := name_problem(alias):
            raise _unsafe(alias, problem)
        if alias in entries or not isinstance(name, str) or name not in entries:
            raise _unsafe(alias, f"stands for {str(name)[:80]!r}, which it cannot")
    return aliases


def _unsafe(name: str, problem: str) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(f"tensor {name[:200]!r} {problem}; do not trust this file")


def _as_json(entry: Entry) -> dict[str, Any]:
    sums = [f"{value:08x}" for value in entry.crcs]
    described: dict[str, Any] = {"dtype": entry.dtype, "shape": list(entry.shape), "crc": sums}
    return described | ({"memory_format": entry.memory_format} if entry.memory_format else {})


def _as_safetensors(entry: Entry) -> dict[str, Any]:
    code, _ = STORED_AS[entry.dtype]
    return {"dtype": code, "shape": list(entry.stored_shape), "data_offsets": [entry.start, entry.end]}
