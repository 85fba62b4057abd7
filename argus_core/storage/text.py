"""The manifest's text as an escaped JSON string in a file's header, and its streaming reader.

The text is read block by block, so that reading takes no more memory than the text.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from io import FileIO
from typing import BinaryIO

from argus_core.errors import CorruptCheckpointError, UnsafeCheckpointError
from argus_core.storage.manifest import excess_length, most_bytes

__all__ = ["AFTER", "BEFORE", "HeaderBytes", "checksum", "cut_off", "escaped", "verify_text"]

# The bytes around the manifest. Inside it, every quotation mark is escaped, so the end is unique.
BEFORE = b'{"__metadata__":{"argus":"'
AFTER = b'","argus_crc":"'

_BLOCK = 2**20


class HeaderBytes:
    """A sequential reader of the bytes of a header.

    Args:
        file: at the beginning of the header.
        size: of the header in bytes.
    """

    def __init__(self, file: BinaryIO | FileIO, size: int) -> None:
        self._file = file
        self.taken, self.left = 0, size

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes; fewer only at the end."""
        data = self._file.read(min(count, self.left))
        if len(data) < min(count, self.left):
            raise cut_off()
        self._move(len(data))
        return data

    def give_back(self, data: bytes) -> None:
        """Return the last bytes to the reader, so that `take` yields them again."""
        self._file.seek(-len(data), 1)
        self._move(-len(data))

    def _move(self, count: int) -> None:
        self.taken += count
        self.left -= count


def escaped(text: bytes) -> bytes:
    """Return canonical JSON, which is ASCII without control characters, escaped for a JSON string."""
    return text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def cut_off() -> CorruptCheckpointError:
    """Return the error for a file that became shorter meanwhile."""
    return CorruptCheckpointError("the file was cut off in the header while it was read; use another copy")


def checksum(crc: int) -> bytes:
    """Return a CRC-32 in its written form."""
    return f"{crc:08x}".encode("ascii")


def verify_text(source: HeaderBytes, payload: int) -> str:
    """Read the manifest's text, and compare it with its CRC-32; leave the source at the bytes after it.

    Args:
        source: at the text's beginning.
        payload: the bytes of tensors after the header, which limit the length of the text.

    Raises:
        CorruptCheckpointError: the text has no end, or is damaged.
        UnsafeCheckpointError: it is longer than argus_core ever writes.
    """
    parts: list[str] = []
    most = most_bytes(payload)
    crc = length = 0
    right = True
    for raw in _escaped_blocks(source):
        text = raw.replace(b'\\"', b'"').replace(b"\\\\", b"\\")
        right = right and escaped(text) == raw and text.isascii()
        length += len(text)
        crc = zlib.crc32(text, crc)
        if length <= most and right:
            parts.append(text.decode("ascii"))
    if why := excess_length(length, payload):
        raise UnsafeCheckpointError(f"the manifest {why}; do not trust this file")
    after = source.take(len(AFTER) + 8)
    source.give_back(after)
    if after != AFTER + checksum(crc) or not right:
        raise CorruptCheckpointError(
            "the header is damaged (the manifest's checksum is wrong); use another copy"
        )
    return "".join(parts)


def _escaped_blocks(source: HeaderBytes) -> Iterator[bytes]:
    pending = b""
    while block := source.take(_BLOCK):
        pending += block
        end = pending.find(AFTER)
        if end >= 0:
            source.give_back(pending[end:])
            yield pending[:end]
            return
        # The cut splits neither the end mark nor an escape.
        cut = max(0, len(pending) - len(AFTER))
        cut -= (cut - len(pending[:cut].rstrip(b"\\"))) % 2
        yield pending[:cut]
        pending = pending[cut:]
    raise CorruptCheckpointError("the header is damaged (it holds no manifest); use another copy")
