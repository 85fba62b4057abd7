"""Reading parts of tensors from the pieces in which they are stored, on several threads, with checksums."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from io import FileIO

import torch
from torch import Tensor

from argus_core.storage import payload
from argus_core.storage.crc import CHUNK, verify_chunk
from argus_core.storage.entry import Entry
from argus_core.storage.pieces import Box
from argus_core.storage.reader import SMALL, THREADS, Reading, later, make_room
from argus_core.storage.threads import Threads

__all__ = ["Source", "Wanted", "read_parts"]


@dataclass(frozen=True)
class Source:
    """A stored piece of a tensor.

    Attributes:
        shard: the name of the file, for messages.
        file: open; several threads may read it at a time.
        start: of the file's payload, in bytes.
        entry: of the piece in the file, with its checksums.
        box: of the piece in the tensor.
    """

    shard: str
    file: FileIO
    start: int
    entry: Entry
    box: Box


@dataclass(frozen=True)
class Wanted:
    """A part of a tensor to read: its form, its place, and the pieces that may hold some of it."""

    entry: Entry
    box: Box
    sources: Callable[[], list[Source]]


def read_parts(
    wanted: Mapping[str, Wanted],
    device: torch.device | str,
    verify: bool,
    into: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Read parts of tensors, and return them by name; see `reader.read_payload`."""
    with Threads(THREADS, "argus-read") as threads:
        # The longest first, so that no thread starts a long one when the others are finished.
        ordered = sorted(wanted.items(), key=lambda item: item[1].entry.size < CHUNK)
        started = (
            _start(name, part, make_room(name, part.entry, into.get(name)), verify, threads)
            for name, part in ordered
        )
        return {reading.name: reading.finish(device) for reading in later(started)}


def _start(name: str, wanted: Wanted, tensor: Tensor, verify: bool, threads: Threads) -> Reading:
    reading = Reading(name, wanted.entry, tensor)
    for source in wanted.sources():
        common = source.box.overlap(wanted.box)
        if common is None:
            continue
        if _are_rows(common, source.box) and _are_rows(common, wanted.box):
            view = payload.view(tensor)
            tasks = _row_tasks(name, source, common, wanted.box, view, verify)
        else:
            piece = make_room(name, Entry(source.entry.dtype, source.entry.shape), None)
            tasks = _row_tasks(name, source, source.box, source.box, payload.view(piece), verify)
            target = payload.as_integers(tensor)[common.inside(wanted.box)]
            reading.after.append(partial(target.copy_, payload.as_integers(piece)[common.inside(source.box)]))
        for size, task in tasks:
            if size < SMALL:
                task()
            else:
                reading.chunks.append(threads.submit(task))
    return reading


def _are_rows(part: Box, whole: Box) -> bool:
    """Return whether a part is rows of the whole, which lie one after the other in memory."""
    return part.shape[1:] == whole.shape[1:]


def _row_tasks(
    name: str, source: Source, rows: Box, target: Box, view: memoryview, verify: bool
) -> Iterator[tuple[int, Callable[[], None]]]:
    """Yield what reads each chunk that holds some of the rows, with the chunk's size.

    Args:
        name: of the tensor.
        source: holds the rows.
        rows: of the tensor.
        target: the part of the tensor that ``view`` holds.
        view: the bytes to fill.
        verify: whether to compare checksums.
    """
    entry = source.entry
    first, last, shift = 0, entry.size, 0
    if rows.shape:
        row = entry.size // source.box.shape[0]
        first = (rows.offset[0] - source.box.offset[0]) * row
        last = first + rows.shape[0] * row
        shift = (rows.offset[0] - target.offset[0]) * row - first
    for number in range(first // CHUNK, -(-last // CHUNK)):
        begin, end = number * CHUNK, min((number + 1) * CHUNK, entry.size)
        place = f"chunk {number + 1} of {len(entry.crcs)} in {source.shard}"
        expected = entry.crcs[number] if verify else None
        start = source.start + entry.start + begin
        inner = slice(max(first, begin), min(last, end))
        into = view[inner.start + shift : inner.stop + shift]
        if inner == slice(begin, end):
            yield end - begin, partial(verify_chunk, source.file, start, into, expected, name, place)
        else:
            within = slice(inner.start - begin, inner.stop - begin)
            yield (
                end - begin,
                partial(_read_some, source.file, start, end - begin, within, into, expected, name, place),
            )


def _read_some(
    file: FileIO,
    start: int,
    size: int,
    within: slice,
    into: memoryview,
    expected: int | None,
    name: str,
    place: str,
) -> None:
    """Read and verify a whole chunk, of which only some bytes are wanted."""
    chunk = memoryview(bytearray(size))
    verify_chunk(file, start, chunk, expected, name, place)
    into[:] = chunk[within]
