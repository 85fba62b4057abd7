"""CRC-32 of bytes that come or go, chunk by chunk."""

from __future__ import annotations

import functools
import os
import threading
import zlib
from collections.abc import Callable
from io import FileIO

from argus_core.errors import CorruptCheckpointError

__all__ = ["CHUNK", "ChunkSums", "chunk_count", "fastest", "fill"]

# Bytes under one checksum.
CHUNK = 8 * 2**20

# Bytes read at a time: they fit into the processor's cache, where the sum finds them.
_PART = 2**20

# Where files can only be read at their one position, threads take turns.
_POSITION = threading.Lock()


@functools.cache
def fastest() -> Callable[[memoryview, int], int]:
    """Return zlib-ng's CRC-32, which takes a tenth of the time, or zlib's where that is not installed."""
    try:
        from zlib_ng.zlib_ng import crc32  # when it is needed, not by who only builds a model
    except ImportError:
        return zlib.crc32
    return crc32


def chunk_count(size: int) -> int:
    """Return how many chunks ``size`` bytes make."""
    return -(-size // CHUNK)


class ChunkSums:
    """The CRC-32 of each chunk of a stream that comes in parts of any size."""

    def __init__(self) -> None:
        self._done: list[int] = []
        self._sum = 0
        self._size = 0
        self._crc32 = fastest()

    def add(self, part: memoryview) -> None:
        """Take the next bytes of the stream."""
        while part:
            taken = part[: CHUNK - self._size]
            self._sum = self._crc32(taken, self._sum)
            self._size += len(taken)
            if self._size == CHUNK:
                self._close_chunk()
            part = part[len(taken) :]

    def finish(self) -> tuple[int, ...]:
        """Return the sums once the stream has ended."""
        if self._size:
            self._close_chunk()
        return tuple(self._done)

    def _close_chunk(self) -> None:
        self._done.append(self._sum)
        self._sum = self._size = 0


def fill(file: FileIO, start: int, view: memoryview, what: str, verify: bool = False) -> int:
    """Read the bytes from ``start`` on into ``view``, and return their CRC-32, or 0.

    Args:
        file: read by several threads at a time.
        start: bytes from the beginning of the file.
        view: where the bytes go.
        what: what they are, for the message.
        verify: whether to take the sum.

    Raises:
        CorruptCheckpointError: the file ends before.
    """
    crc, crc32 = 0, fastest()
    while view:
        count = _read_at(file, start, view[:_PART])
        if not count:
            raise CorruptCheckpointError(
                f"the file was cut off in {what} while it was read; use another copy"
            )
        if verify:
            crc = crc32(view[:count], crc)
        start += count
        view = view[count:]
    return crc


def _read_at(file: FileIO, start: int, view: memoryview) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [view], start)
    with _POSITION:
        file.seek(start)
        return file.readinto(view)
