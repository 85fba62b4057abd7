"""Reading the payload: directly into tensors, on several threads, with checksums."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
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

__all__ = ["SMALL", "THREADS", "Reading", "later", "make_room", "read_payload"]

THREADS = min(4, os.cpu_count() or 1)
# Bytes below which submitting a read to a thread takes longer than the read.
SMALL = 2**18
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
    with Threads(THREADS, "argus-read") as threads:
        wanted = [(name, entry) for name, entry in header.entries.items() if name in names]
        # The longest first, so that no thread starts a long one when the others are finished.
        wanted.sort(key=lambda each: each[1].size < CHUNK)
        readings = (Reading(name, entry, make_room(name, entry, into.get(name))) for name, entry in wanted)
        started = (_start(reading, file, header.payload_start, verify, threads) for reading in readings)
        return {reading.name: reading.finish(device) for reading in later(started)}


@dataclass
class Reading:
    """A tensor that is being read, with the futures of its chunks and what is left to do after them."""

    name: str
    entry: Entry
    tensor: Tensor
    chunks: list[Future[None]] = field(default_factory=list)
    after: list[Callable[[], object]] = field(default_factory=list)

    def finish(self, device: torch.device | str) -> Tensor:
        """Wait for the read, and return the tensor on ``device``."""
        for chunk in self.chunks:
            chunk.result()
        for step in self.after:
            step()
        return payload.restore(self.tensor, self.entry, device)


def _start(reading: Reading, file: FileIO, payload_start: int, verify: bool, threads: Threads) -> Reading:
    view, entry = payload.view(reading.tensor), reading.entry
    for number, offset in enumerate(range(0, len(view), CHUNK)):
        chunk = view[offset : offset + CHUNK]
        expected = entry.crcs[number] if verify else None
        place = f"chunk {number + 1} of {len(entry.crcs)}"
        task = (file, payload_start + entry.start + offset, chunk, expected, reading.name, place)
        if len(chunk) < SMALL:
            verify_chunk(*task)
        else:
            reading.chunks.append(threads.submit(verify_chunk, *task))
    return reading


def make_room(name: str, entry: Entry, into: Tensor | None) -> Tensor:
    """Return a tensor to read into; raise where memory is too small, as for a large sparse file."""
    try:
        return payload.room(entry, into)
    except RuntimeError as error:
        raise CheckpointError(
            f"tensor {name!r} takes {entry.size:,} bytes, more than there is memory for; use another "
            "machine, or another copy if it should be small"
        ) from error


def later(readings: Iterable[Reading]) -> Iterator[Reading]:
    """Yield readings in order, each after later ones have been started."""
    waiting: deque[Reading] = deque()
    size = 0
    for reading in readings:
        waiting.append(reading)
        size += reading.entry.size
        while size > _MOST_WAITING:
            size -= waiting[0].entry.size
            yield waiting.popleft()
    yield from waiting
