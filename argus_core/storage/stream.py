"""Bytes on their way to the disk."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

from argus_core.storage.crc import ChunkSums

__all__ = ["Stream"]

# Bytes. A block fits into the processor's cache, where the sum and the system find it.
_BLOCK = 2**18
_FLUSHED_AT_ONCE = 2**25


class Stream:
    """Writes a file from its beginning, in whole blocks at multiples of their length; a context manager.

    Anything else makes the system assemble its pages, which takes half as long again. What has been
    written goes to the disk meanwhile, rather than all of it at the end.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._block = memoryview(bytearray(_BLOCK))
        self._used = 0
        self._unflushed = 0
        self._flushing: Future[None] | None = None
        self._pool = ThreadPoolExecutor(1, "argus-flush")

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            if error is None:
                self._file.write(self._block[: self._used])
        finally:
            self._pool.shutdown()
        self._check_flushed()

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
                self._write_block()

    def _write_block(self) -> None:
        self._file.write(self._block)
        self._used = 0
        self._unflushed += _BLOCK
        if self._unflushed >= _FLUSHED_AT_ONCE and (self._flushing is None or self._flushing.done()):
            self._check_flushed()
            self._flushing = self._pool.submit(os.fsync, self._file.fileno())
            self._unflushed = 0

    def _check_flushed(self) -> None:
        # The system tells of a failed write once, and perhaps only here.
        if self._flushing is not None:
            self._flushing.result()
