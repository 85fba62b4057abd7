"""Reading the payload: directly into tensors, on several threads, with checksums."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from io import FileIO

import torch
from torch import Tensor

from argus_core.errors import CheckpointError
from argus_core.storage import payload
from argus_core.storage.crc import CHUNK, verify_chunk
from argus_core.storage.entry import Entry
from argus_core.storage.header import Header
from argus_core.storage.threads import Threads

__all__ = ["read_payload"]

_THREADS = min(4, os.cpu_count() or 1)
# Bytes below which submitting a read to a thread takes longer than the read.
_SMALL = 2**18
# Bytes that may be in flight at a time, in host memory beside that of another device.
_MOST_WAITING = 8 * CHUNK


def read_payload(
    file: FileIO,
    header: Header,
    names: set[str],
    device: torch.device | str,
    verify: bool,
    into: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Read stored tensors, and return them by name.

    Args:
        file: the open checkpoint.
        header: the file's.
        names: of stored tensors, without aliases.
        device: of the returned tensors.
        verify: whether to compare checksums.
        into: CPU tensors by name to fill in place of new ones, where their form allows it.

    Raises:
        CorruptCheckpointError: a tensor's bytes differ from its checksums.
    """
    if not names:
        return {}
    with Threads(_THREADS, "argus-read") as threads:
        wanted = [(name, entry) for name, entry in header.entries.items() if name in names]
        # The longest first, so that no thread starts a long one when the others are finished.
        wanted.sort(key=lambda each: each[1].size < CHUNK)
        readings = (_Reading(name, entry, _room(name, entry, into.get(name))) for name, entry in wanted)
        started = (_start(reading, file, header.payload_start, verify, threads) for reading in readings)
        return {reading.name: reading.finish(device) for reading in _later(started)}


@dataclass
class _Reading:
    """A tensor that is being read, with the futures of its chunks."""

    name: str
    entry: Entry
    tensor: Tensor
    chunks: list[Future[None]] = field(default_factory=list)

    def finish(self, device: torch.device | str) -> Tensor:
        """Wait for the read, and return the tensor on ``device``."""
        for chunk in self.chunks:
            chunk.result()
        return payload.restore(self.tensor, self.entry, device)


def _start(reading: _Reading, file: FileIO, payload_start: int, verify: bool, threads: Threads) -> _Reading:
    view, entry = payload.view(reading.tensor), reading.entry
    for number, offset in enumerate(range(0, len(view), CHUNK)):
        chunk = view[offset : offset + CHUNK]
        expected = entry.crcs[number] if verify else None
        place = f"chunk {number + 1} of {len(entry.crcs)}"
        task = (file, payload_start + entry.start + offset, chunk, expected, reading.name, place)
        if len(chunk) < _SMALL:
            verify_chunk(*task)
        else:
            reading.chunks.append(threads.submit(verify_chunk, *task))
    return reading


def _room(name: str, entry: Entry, into: Tensor | None) -> Tensor:
    """Return a tensor to read into; raise where memory is too small, as for a large sparse file."""
    try:
        return payload.room(entry, into)
    except RuntimeError as error:
        raise CheckpointError(
            f"tensor {name!r} takes {entry.size:,} bytes, more than there is memory for; use another "
            "machine, or another copy if it should be small"
        ) from error


def _later(readings: Iterable[_Reading]) -> Iterator[_Reading]:
    """Yield readings in order, each after later ones have been started."""
    waiting: deque[_Reading] = deque()
    size = 0
    for reading in readings:
        waiting.append(reading)
        size += reading.entry.size
        while size > _MOST_WAITING:
            size -= waiting[0].entry.size
            yield waiting.popleft()
    yield from waiting
