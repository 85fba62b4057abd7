"""Writing a checkpoint: a stream of the tensors, summed as they pass."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from argus_core.errors import CheckpointError, ParamsError
from argus_core.manifest import SCHEMA
from argus_core.storage import header
from argus_core.storage.crc import ChunkSums, chunk_count
from argus_core.storage.entry import Entry
from argus_core.storage.replacement import replacement

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["write"]

# Bytes.
_PART = 2**18
_FLUSHED_AT_ONCE = 2**25


def write(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], manifest: dict[str, Any]) -> None:
    """Write a checkpoint that is either whole at ``path``, and on the disk, or not there at all.

    Args:
        path: the file; its folder is made, and a file that is there is replaced.
        tensors: what to store, by name, on any device; names of one and the same tensor share one copy.
        manifest: JSON-able data (see `manifest.encode`); the storage adds ``schema``, ``tensors`` and
            ``aliases``.

    Raises:
        ParamsError: a tensor, a name or the manifest is not one that can be stored.
        CheckpointError: the system refused to write; what was at ``path`` is untouched.
    """
    from argus_core.storage import payload

    manifest = {"schema": SCHEMA, **manifest}
    kept, aliases = payload.stored_once(tensors)
    entries = header.place({name: _blank(payload.entry_of(tensor)) for name, tensor in kept.items()})
    blank = header.render(manifest, entries, aliases)
    _check_readable(blank)
    with replacement(path) as file, _Flusher(file) as flusher:
        file.write(blank)
        sums = {name: _write_tensor(file, tensor, flusher) for name, tensor in kept.items()}
        entries = {name: replace(entry, crcs=sums[name]) for name, entry in entries.items()}
        file.seek(0)
        file.write(header.render(manifest, entries, aliases))


def _blank(entry: Entry) -> Entry:
    # As long as the header with the real sums, which are known only once the tensors are written.
    return replace(entry, crcs=(0,) * chunk_count(entry.size))


def _check_readable(data: bytes) -> None:
    """Refuse to write what could not be read."""
    try:
        header.parse(data)
    except CheckpointError as error:
        raise ParamsError(f"this could be written but not read again: {error}") from error


def _write_tensor(file: BinaryIO, tensor: Tensor, flusher: _Flusher) -> tuple[int, ...]:
    """Write a tensor's bytes, and return the checksums of its chunks."""
    from argus_core.storage import payload

    sums = ChunkSums()
    # What is summed is what is written, even if a thread goes on training. The buffer fits into the
    # processor's cache; larger writes take longer, too.
    buffer = memoryview(bytearray(min(tensor.nbytes, _PART)))
    for piece in payload.pieces(tensor):
        view = payload.view(piece)
        for start in range(0, len(view), _PART):
            part = buffer[: len(view) - start]
            part[:] = view[start : start + len(part)]
            sums.add(part)
            file.write(part)
        flusher.add(len(view))
    return sums.finish()


class _Flusher:
    """Has the disk take what is written meanwhile, rather than all of it at the end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._pool = ThreadPoolExecutor(1, "argus-flush")
        self._running: Future[None] | None = None
        self._unflushed = 0

    def __enter__(self) -> _Flusher:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        self._wait()

    def add(self, size: int) -> None:
        """Tell that ``size`` bytes have been written."""
        self._unflushed += size
        if self._unflushed >= _FLUSHED_AT_ONCE and (self._running is None or self._running.done()):
            self._wait()
            self._running = self._pool.submit(os.fsync, self._file.fileno())
            self._unflushed = 0

    def _wait(self) -> None:
        # The system tells of a failed write once, perhaps only here.
        if self._running is not None:
            self._running.result()
