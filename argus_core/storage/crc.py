"""CRC-32 checksums of a file's bytes, chunk by chunk, while they are read or written."""

from __future__ import annotations

import functools
import os
import threading
import zlib
from collections.abc import Callable
from io import FileIO

from argus_core.errors import CorruptCheckpointError

__all__ = ["CHUNK", "ChunkSums", "chunk_count", "fastest", "verify_chunk"]

# Bytes per checksum.
CHUNK = 8 * 2**20

# Bytes read at a time: they fit into the processor's cache, so that the checksum is fast.
_PART = 2**20

# Where the system cannot read at an offset, threads share the file's position.
_POSITION = threading.Lock()


@functools.cache
def fastest() -> Callable[[memoryview, int], int]:
    """Return zlib-ng's CRC-32, which takes a tenth of the time, or zlib's where that is not installed."""
    try:
        from zlib_ng.zlib_ng import crc32  # imported on first use, not to build a model
    except ImportError:
        return zlib.crc32
    return crc32


def chunk_count(size: int) -> int:
    """Return the number of chunks in ``size`` bytes."""
    return -(-size // CHUNK)


class ChunkSums:
    """The CRC-32 of each chunk of a stream, updated with parts of any size."""

    def __init__(self) -> None:
        self._done: list[int] = []
        self._sum = 0
        self._size = 0
        self._crc32 = fastest()

    def add(self, part: memoryview) -> None:
        """Update the checksums with the next bytes of the stream."""
        while part:
            taken = part[: CHUNK - self._size]
            self._sum = self._crc32(taken, self._sum)
            self._size += len(taken)
            if self._size == CHUNK:
                self._close_chunk()
            part = part[len(taken) :]

    def finish(self) -> tuple[int, ...]:
        """Return the checksums after the end of the stream."""
        if self._size:
            self._close_chunk()
        return tuple(self._done)

    def _close_chunk(self) -> None:
        self._done.append(self._sum)
        self._sum = self._size = 0


def verify_chunk(
    file: FileIO, start: int, view: memoryview, expected: int | None, tensor: str, place: str
) -> None:
    """Read the bytes from ``start`` on into ``view``, and compare them with their CRC-32.

    Args:
        file: may be read by several threads at a time.
        start: bytes from the beginning of the file.
        view: the buffer to fill.
        expected: the CRC-32; ``None`` skips the comparison.
        tensor, place: the name of the tensor, and which of its chunks this is, for messages.

    Raises:
        CorruptCheckpointError: the checksum differs, or the file ends before the buffer is full.
    """
    crc, crc32 = 0, fastest()
    while view:
        count = _read_at(file, start, view[:_PART])
        if not count:
            raise CorruptCheckpointError(
                f"the file was cut off in tensor {tensor!r} while it was read; use another copy"
            )
        if expected is not None:
            crc = crc32(view[:count], crc)
        start += count
        view = view[count:]
    if expected is not None and crc != expected:
        raise CorruptCheckpointError(f"tensor {tensor!r} is damaged ({place}); use another copy")


def _read_at(file: FileIO, start: int, view: memoryview) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [view], start)
    with _POSITION:
        file.seek(start)
        return file.readinto(view)
