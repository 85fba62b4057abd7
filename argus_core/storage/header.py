"""The header of a checkpoint: bytes made of a manifest, and a manifest got from bytes.

Nothing in a header is believed before its checksum; then everything in it is compared with what the
manifest says it must be. Without torch.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass, replace
from typing import Any

from argus_core.errors import CheckpointError, CorruptCheckpointError, UnsafeCheckpointError
from argus_core.manifest import canonical, dumps, excess_length, loads, migrate
from argus_core.storage.crc import chunk_count
from argus_core.storage.entry import MEMORY_FORMATS, STORED_AS, Entry, is_shape, name_problem

__all__ = ["Header", "check_length", "parse", "place", "render"]

# Room for a manifest of 16 MiB, which takes a little more as a JSON string, and for the table of its tensors.
_MAX_BYTES = 40 * 2**20
_ALIGNMENT = 8

# What stands before and after the manifest: inside of it, no quotation mark follows a comma unescaped.
_BEFORE = b'{"__metadata__":{"argus":"'
_AFTER = b'","argus_crc":"'
# Bytes beyond which a header of others is not even looked at: it takes a dozen times as much in memory.
_FOREIGN = 2**20

_HEX = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True)
class Header:
    """All that a checkpoint says before its payload.

    Attributes:
        manifest: in the present schema.
        entries: the stored tensors by name, in the order of the file.
        aliases: other names of stored tensors.
        payload_start: where the payload begins in the file, in bytes.
    """

    manifest: dict[str, Any]
    entries: dict[str, Entry]
    aliases: dict[str, str]
    payload_start: int

    @property
    def file_size(self) -> int:
        """How many bytes the whole file takes."""
        return self.payload_start + sum(entry.size for entry in self.entries.values())


def place(entries: dict[str, Entry]) -> dict[str, Entry]:
    """Return entries one after the other without holes."""
    placed: dict[str, Entry] = {}
    start = 0
    for name, entry in entries.items():
        placed[name] = replace(entry, start=start)
        start = placed[name].end
    return placed


def render(manifest: dict[str, Any], entries: dict[str, Entry], aliases: dict[str, str]) -> bytes:
    """Return the file's first bytes, up to the payload.

    Raises:
        ParamsError: the manifest is not JSON-able, or too big.
    """
    tensors = {name: _as_json(entry) for name, entry in entries.items()}
    return _render(dumps({**manifest, "tensors": tensors, "aliases": aliases}), entries)


def parse(data: bytes) -> Header:
    """Return the header in a file's first bytes, up to the payload, if all of it holds.

    Raises:
        CheckpointError: it is not the header of an argus checkpoint.
        CorruptCheckpointError: it is not what was written.
        UnsafeCheckpointError: it is what argus_core never writes.
        NewerCheckpointError: a newer argus_core wrote it.
    """
    check_length(len(data) - 8)
    text = _manifest_text(data)
    manifest = migrate(loads(text))
    entries = _entries(manifest.get("tensors"))
    aliases = _aliases(manifest.get("aliases"), entries)
    if not _is_rendered(data, text, entries):
        raise CorruptCheckpointError("the header is damaged (it contradicts the manifest); use another copy")
    return Header(manifest, entries, aliases, payload_start=len(data))


def check_length(length: int) -> None:
    """Check that a header takes no more bytes than any that argus_core writes.

    Raises:
        UnsafeCheckpointError: it does.
    """
    if length > _MAX_BYTES:
        raise UnsafeCheckpointError(
            f"the header takes {length:,} bytes, and {_MAX_BYTES:,} is the most; do not trust this file"
        )


def _render(text: bytes, entries: dict[str, Entry]) -> bytes:
    escaped = _escaped(text)
    rest = _rest(text, entries)
    length = len(_BEFORE) + len(escaped) + len(rest)
    padding = -length % _ALIGNMENT
    return b"".join(((length + padding).to_bytes(8, "little"), _BEFORE, escaped, rest, b" " * padding))


def _is_rendered(data: bytes, text: bytes, entries: dict[str, Entry]) -> bool:
    """Return whether `_render` gives these bytes, without all of them a second time."""
    start, end = 8 + len(_BEFORE), data.find(_AFTER)
    rest = _rest(text, entries)
    padding = len(data) - end - len(rest)
    return (
        int.from_bytes(data[:8], "little") == len(data) - 8
        and padding == -(end - 8 + len(rest)) % _ALIGNMENT
        and data.endswith(rest + b" " * padding)
        and memoryview(data)[start:end] == _escaped(text)
    )


def _escaped(text: bytes) -> bytes:
    """Return canonical JSON as it stands in a JSON string: it is ASCII without control characters."""
    return text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def _rest(text: bytes, entries: dict[str, Entry]) -> bytes:
    """Return what follows the manifest in the header, padding aside."""
    tensors = canonical({name: _as_safetensors(entry) for name, entry in entries.items()})
    metadata = _AFTER + _hex(zlib.crc32(text)).encode("ascii") + b'","format":"pt"}'
    return metadata + (b"}" if tensors == b"{}" else b"," + tensors[1:])


def _manifest_text(data: bytes) -> bytes:
    """Return the manifest's JSON out of the header's, which may hold anything else."""
    start, end = 8 + len(_BEFORE), data.find(_AFTER)
    if not data.startswith(_BEFORE, 8) or end < start:
        if _is_foreign(data):
            raise CheckpointError(
                "not an argus checkpoint: a safetensors file without a manifest; read it with "
                "safetensors.torch.load_file"
            )
        raise CorruptCheckpointError("the header is damaged (it holds no manifest); use another copy")
    # Canonical JSON leaves these two to be escaped. The length counts before anything is copied.
    length = end - start - data.count(b'\\"', start, end) - data.count(b"\\\\", start, end)
    if why := excess_length(length):
        raise UnsafeCheckpointError(f"the manifest {why}; do not trust this file")
    text = data[start:end].replace(b'\\"', b'"').replace(b"\\\\", b"\\")
    checksum = data[end + len(_AFTER) : end + len(_AFTER) + 8]
    if checksum != _hex(zlib.crc32(text)).encode("ascii") or not text.isascii():
        raise CorruptCheckpointError(
            "the header is damaged (the manifest's checksum is wrong); use another copy"
        )
    return text


def _is_foreign(data: bytes) -> bool:
    # A single damaged bit cannot hit both keys.
    if b'"argus":' in data or b'"argus_crc":' in data or len(data) > _FOREIGN:
        return False
    try:
        return isinstance(json.loads(data[8:]), dict)
    except (ValueError, RecursionError):
        return False


def _entries(tensors: object) -> dict[str, Entry]:
    if not isinstance(tensors, dict):
        raise UnsafeCheckpointError("the manifest holds no table of tensors; do not trust this file")
    entries: dict[str, Entry] = {}
    start = 0
    for name, tensor in tensors.items():
        entries[_checked_name(name)] = _entry(name, tensor, start)
        start = entries[name].end
    return entries


def _entry(name: str, tensor: Any, start: int) -> Entry:
    match tensor:
        case {"dtype": str(dtype), "shape": list(shape), "crc": list(sums), **rest}:
            pass
        case _:
            raise _unsafe(name, "lacks a dtype, a shape or checksums")
    if dtype not in STORED_AS:
        raise CheckpointError(f"tensor {name!r} has the unknown dtype {dtype[:40]!r}; upgrade argus-torch")
    memory_format = str(rest["memory_format"]) if "memory_format" in rest else None
    if memory_format is not None and MEMORY_FORMATS.get(memory_format) != len(shape):
        raise _unsafe(name, "has a memory format that its shape cannot have")
    if not is_shape(shape, dtype):
        raise _unsafe(name, "has an impossible shape")
    if not all(isinstance(value, str) and _HEX.fullmatch(value) for value in sums):
        raise _unsafe(name, "has checksums that are none")
    entry = Entry(dtype, tuple(shape), memory_format, tuple([int(value, 16) for value in sums]), start)
    if len(sums) != chunk_count(entry.size):
        raise _unsafe(name, "has too many checksums or too few")
    return entry


def _aliases(aliases: object, entries: dict[str, Entry]) -> dict[str, str]:
    if not isinstance(aliases, dict):
        raise UnsafeCheckpointError("the manifest holds no table of aliases; do not trust this file")
    for alias, name in aliases.items():
        if _checked_name(alias) in entries or not isinstance(name, str) or name not in entries:
            raise _unsafe(alias, f"stands for {str(name)[:80]!r}, which it cannot")
    return aliases


def _checked_name(name: str) -> str:
    if problem := name_problem(name):
        raise _unsafe(name, problem)
    return name


def _unsafe(name: str, problem: str) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(f"tensor {name[:200]!r} {problem}; do not trust this file")


def _as_json(entry: Entry) -> dict[str, Any]:
    sums = [_hex(value) for value in entry.crcs]
    described: dict[str, Any] = {"dtype": entry.dtype, "shape": list(entry.shape), "crc": sums}
    return described | ({"memory_format": entry.memory_format} if entry.memory_format else {})


def _as_safetensors(entry: Entry) -> dict[str, Any]:
    code, _ = STORED_AS[entry.dtype]
    return {"dtype": code, "shape": list(entry.stored_shape), "data_offsets": [entry.start, entry.end]}


def _hex(value: int) -> str:
    return f"{value:08x}"
