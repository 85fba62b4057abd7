"""The text of a manifest in the header of a file: escaped once more, since there it is a JSON string.

It is read block by block, so that a header takes no more memory than the text in it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from io import FileIO
from typing import BinaryIO

from argus_core.errors import CorruptCheckpointError, UnsafeCheckpointError
from argus_core.storage.manifest import excess_length, most_bytes

__all__ = ["AFTER", "BEFORE", "HeaderBytes", "checksum", "escaped", "take_text"]

# What stands before and after the manifest: inside of it, no quotation mark follows a comma unescaped.
BEFORE = b'{"__metadata__":{"argus":"'
AFTER = b'","argus_crc":"'

_BLOCK = 2**20


class HeaderBytes:
    """The bytes of a header, taken one after the other.

    Args:
        file: where they begin.
        size: how many there are.
    """

    def __init__(self, file: BinaryIO | FileIO, size: int) -> None:
        self._file = file
        self.taken, self.left = 0, size

    def take(self, count: int) -> bytes:
        """Return the next bytes, fewer than ``count`` only at the end."""
        data = self._file.read(min(count, self.left))
        if len(data) < min(count, self.left):
            raise CorruptCheckpointError(
                "the file was cut off in the header while it was read; use another copy"
            )
        self._move(len(data))
        return data

    def give_back(self, data: bytes) -> None:
        """Take back the last bytes that were taken."""
        self._file.seek(-len(data), 1)
        self._move(-len(data))

    def _move(self, count: int) -> None:
        self.taken += count
        self.left -= count


def escaped(text: bytes) -> bytes:
    """Return canonical JSON as it stands in a JSON string: it is ASCII without control characters."""
    return text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def checksum(crc: int) -> bytes:
    """Return a CRC-32 as it is written."""
    return f"{crc:08x}".encode("ascii")


def take_text(source: HeaderBytes, payload: int) -> str:
    """Return the manifest's text, and leave the source at what follows it.

    Args:
        source: at the text's beginning.
        payload: how many bytes of tensors follow the header; the fewer, the shorter it must be.

    Raises:
        CorruptCheckpointError: it does not end, or is not what was written.
        UnsafeCheckpointError: it is longer than any that argus_core writes.
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
        # Neither what follows nor an escape is cut.
        cut = max(0, len(pending) - len(AFTER))
        cut -= (cut - len(pending[:cut].rstrip(b"\\"))) % 2
        yield pending[:cut]
        pending = pending[cut:]
    raise CorruptCheckpointError("the header is damaged (it holds no manifest); use another copy")
