"""CRC-32 of bytes, chunk by chunk."""

from __future__ import annotations

import zlib

__all__ = ["CHUNK", "ChunkSums", "chunk_count"]

# Bytes under one checksum, and the most that is in flight at a time.
CHUNK = 8 * 2**20


def chunk_count(size: int) -> int:
    """Return how many chunks ``size`` bytes make."""
    return -(-size // CHUNK)


class ChunkSums:
    """The CRC-32 of each chunk of a stream that comes in parts of any size."""

    def __init__(self) -> None:
        self._done: list[int] = []
        self._sum = 0
        self._size = 0

    def add(self, part: memoryview) -> None:
        """Take the next bytes of the stream."""
        while part:
            taken = part[: CHUNK - self._size]
            self._sum = zlib.crc32(taken, self._sum)
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
