"""Reading the payload: straight into the tensors, on several threads, with checksums."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from io import FileIO

import torch
from torch import Tensor

from argus_core.errors import CheckpointError, CorruptCheckpointError
from argus_core.storage import payload
from argus_core.storage.crc import CHUNK, fill
from argus_core.storage.entry import Entry
from argus_core.storage.header import Header
from argus_core.storage.threads import Threads

__all__ = ["read"]

_THREADS = min(4, os.cpu_count() or 1)
# Bytes below which handing a tensor over takes longer than reading it.
_SMALL = 2**18
# Bytes that may be under way at a time: they take memory beside that of another device.
_MOST_WAITING = 8 * CHUNK


def read(
    file: FileIO,
    header: Header,
    names: set[str],
    device: torch.device | str,
    verify: bool,
    into: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Return stored tensors by name.

    Args:
        file: where the header was read from.
        header: the file's.
        names: which; those of stored tensors, not of aliases.
        device: where the tensors come to be.
        verify: whether to compare checksums.
        into: CPU tensors by name that are filled, where they can be, in place of new ones.

    Raises:
        CorruptCheckpointError: a tensor's bytes are not those that were written.
    """
    if not names:
        return {}
    with Threads(_THREADS, "argus-read") as threads:
        wanted = [(name, entry) for name, entry in header.entries.items() if name in names]
        # The longest first, so that no thread begins with one when the others have come to the end.
        wanted.sort(key=lambda each: each[1].size < CHUNK)
        readings = (_Reading(name, entry, _room(name, entry, into.get(name))) for name, entry in wanted)
        started = (_start(reading, file, header.payload_start, verify, threads) for reading in readings)
        return {reading.name: reading.finish(device, verify) for reading in _later(started)}


@dataclass
class _Reading:
    """A tensor whose bytes are being read, and the checksums of its chunks or what will know them."""

    name: str
    entry: Entry
    tensor: Tensor
    sums: list[int | Future[int]] = field(default_factory=list)

    def finish(self, device: torch.device | str, verify: bool) -> Tensor:
        """Return the tensor on ``device`` once it has been read."""
        for index, found in enumerate(self.sums):
            crc = found if isinstance(found, int) else found.result()
            if verify and crc != self.entry.crcs[index]:
                place = f"chunk {index + 1} of {len(self.sums)}"
                raise CorruptCheckpointError(f"tensor {self.name!r} is damaged ({place}); use another copy")
        return payload.restore(self.tensor, self.entry, device)


def _start(reading: _Reading, file: FileIO, payload_start: int, verify: bool, threads: Threads) -> _Reading:
    view = payload.view(reading.tensor)
    what = f"tensor {reading.name!r}"
    for offset in range(0, len(view), CHUNK):
        chunk = view[offset : offset + CHUNK]
        task = (file, payload_start + reading.entry.start + offset, chunk, what, verify)
        reading.sums.append(fill(*task) if len(chunk) < _SMALL else threads.submit(fill, *task))
    return reading


def _room(name: str, entry: Entry, into: Tensor | None) -> Tensor:
    """Return a tensor to read into. A file with holes in it can be far larger than the disk."""
    try:
        return payload.room(entry, into)
    except RuntimeError as error:
        raise CheckpointError(
            f"tensor {name!r} takes {entry.size:,} bytes, more than there is memory for; use another "
            "machine, or another copy if it should be small"
        ) from error


def _later(readings: Iterable[_Reading]) -> Iterator[_Reading]:
    """Return readings in order, each after some more have been started."""
    waiting: deque[_Reading] = deque()
    size = 0
    for reading in readings:
        waiting.append(reading)
        size += reading.entry.size
        while size > _MOST_WAITING:
            size -= waiting[0].entry.size
            yield waiting.popleft()
    yield from waiting
