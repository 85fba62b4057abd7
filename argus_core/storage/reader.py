"""Reading the payload: straight into the tensors, with checksums made beside it."""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from io import FileIO
from typing import TYPE_CHECKING

from argus_core.errors import CorruptCheckpointError
from argus_core.storage.crc import CHUNK
from argus_core.storage.entry import Entry
from argus_core.storage.header import Header

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["fill", "read"]

_THREADS = min(4, os.cpu_count() or 1)
# Bytes below this are summed where they are read: handing them over takes longer.
_SMALL = 2**18
# Bytes that may wait for their checksums: they take memory beside that of another device.
_MOST_WAITING = 8 * CHUNK


def read(
    file: FileIO, header: Header, names: set[str], device: torch.device | str, verify: bool
) -> dict[str, Tensor]:
    """Return stored tensors by name.

    Args:
        file: where the header was read from.
        header: the file's.
        names: which; those of stored tensors, not of aliases.
        device: where the tensors come to be.
        verify: whether to compare the checksums.

    Raises:
        CorruptCheckpointError: a tensor's bytes are not those that were written.
    """
    with ThreadPoolExecutor(_THREADS, "argus-checksum") as pool:
        wanted = [(name, entry) for name, entry in header.entries.items() if name in names]
        started = (_start(file, header, name, entry, pool if verify else None) for name, entry in wanted)
        return {reading.name: reading.finish(device) for reading in _later(started)}


def fill(file: FileIO, start: int, view: memoryview, what: str) -> None:
    """Read the bytes from ``start`` on into ``view``; ``what`` they are is for the message.

    Raises:
        CorruptCheckpointError: the file ends before.
    """
    file.seek(start)
    while view:
        count = file.readinto(view)
        if not count:
            raise CorruptCheckpointError(
                f"the file was cut off in {what} while it was read; use another copy"
            )
        view = view[count:]


@dataclass
class _Reading:
    """A tensor whose bytes have been read, and the checksums of its chunks or what will know them."""

    name: str
    entry: Entry
    tensor: Tensor
    sums: list[int | Future[int]] = field(default_factory=list)

    def finish(self, device: torch.device | str) -> Tensor:
        """Return the tensor on ``device`` once its checksums have been compared."""
        from argus_core.storage import payload

        for index, found in enumerate(self.sums):
            value = found if isinstance(found, int) else found.result()
            if value != self.entry.crcs[index]:
                place = f"chunk {index + 1} of {len(self.sums)}"
                raise CorruptCheckpointError(f"tensor {self.name!r} is damaged ({place}); use another copy")
        return payload.restore(self.tensor, self.entry, device)


def _start(
    file: FileIO, header: Header, name: str, entry: Entry, pool: ThreadPoolExecutor | None
) -> _Reading:
    """Read a tensor's bytes, and have them summed by the pool if there is one."""
    from argus_core.storage import payload

    reading = _Reading(name, entry, payload.empty(entry))
    view = payload.view(reading.tensor)
    for offset in range(0, len(view), CHUNK):
        chunk = view[offset : offset + CHUNK]
        fill(file, header.payload_start + entry.start + offset, chunk, f"tensor {name!r}")
        if pool is not None:
            # A small one takes longer to hand over than to sum.
            reading.sums.append(zlib.crc32(chunk) if len(chunk) < _SMALL else pool.submit(zlib.crc32, chunk))
    return reading


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
