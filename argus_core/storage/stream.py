"""Bytes on their way to the disk."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from typing import BinaryIO

from argus_core.storage import linux
from argus_core.storage.crc import ChunkSums
from argus_core.storage.threads import Threads

__all__ = ["Stream"]

# Bytes. A block fits into the processor's cache, where the sum and the system find it.
_BLOCK = 2**20
_BLOCKS = 4
_BEGUN_AT_ONCE = 2**23


class Stream:
    """Writes a file from its beginning, in whole blocks at multiples of their length; a context manager.

    Anything else makes the system assemble its pages, which takes half as long again. One block is filled
    and summed while others are written, and what has been written begins to go to the disk meanwhile,
    rather than all of it at the end. That all has arrived is for the owner of the file to ensure.
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
        """Write bytes that are copied at once, and sum what was copied."""
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
        """Let the block be written, and take another."""
        self._writing.append((self._writer.submit(self._write, self._block[: self._used]), self._block))
        full = len(self._writing) == _BLOCKS
        self._block = self._written_block() if full else memoryview(bytearray(_BLOCK))
        self._used = 0

    def _written_block(self) -> memoryview:
        """Return the block that has been waited for longest, once it is written."""
        done, block = self._writing.popleft()
        done.result()
        return block

    def _write(self, data: memoryview) -> None:
        self._file.write(data)
        self._written += len(data)
        if self._written - self._begun >= _BEGUN_AT_ONCE:
            linux.begin_writing(self._file.fileno(), self._begun, self._written - self._begun)
            self._begun = self._written
