"""Buffered, threaded writing of a file with checksums."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from typing import BinaryIO

from argus_core.storage import linux
from argus_core.storage.crc import ChunkSums
from argus_core.storage.threads import Threads

__all__ = ["Stream"]

# Bytes. A block fits into the processor's cache, so that checksum and system call are fast.
_BLOCK = 2**20
_BLOCKS = 4
_BEGUN_AT_ONCE = 2**23


class Stream:
    """Sequential writing of a file in aligned blocks; a context manager.

    Unaligned writes take half as long again. One block is filled and its checksum computed while others are
    written. Writing to the disk starts early, not at the end; the caller must still call `os.fsync`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._block = memoryview(bytearray(_BLOCK))
        self._used = 0
        self._writing: deque[tuple[Future[None], memoryview]] = deque()
        self._written = self._begun = 0
        self._writer = Threads(1, "argus-write")

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            if error is None:
                self._send_block()
                while self._writing:
                    self._written_block()
        finally:
            self._writer.stop(discard=True)

    def put(self, data: memoryview | bytes, sums: ChunkSums | None = None) -> None:
        """Copy bytes into the current block to be written, and add the copy to ``sums``."""
        view = memoryview(data)
        while view:
            part = self._block[self._used : self._used + len(view)]
            part[:] = view[: len(part)]
            if sums is not None:
                sums.add(part)
            self._used += len(part)
            view = view[len(part) :]
            if self._used == _BLOCK:
                self._send_block()

    def _send_block(self) -> None:
        """Submit the current block for writing, and take another."""
        self._writing.append((self._writer.submit(self._write, self._block[: self._used]), self._block))
        full = len(self._writing) == _BLOCKS
        self._block = self._written_block() if full else memoryview(bytearray(_BLOCK))
        self._used = 0

    def _written_block(self) -> memoryview:
        """Wait for the oldest submitted block to be written, and return it."""
        done, block = self._writing.popleft()
        done.result()
        return block

    def _write(self, data: memoryview) -> None:
        self._file.write(data)
        self._written += len(data)
        if self._written - self._begun >= _BEGUN_AT_ONCE:
            linux.begin_writing(self._file.fileno(), self._begun, self._written - self._begun)
            self._begun = self._written
