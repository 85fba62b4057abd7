"""Writing a checkpoint: a stream of the tensors, with checksums made beside it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
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

# Tensors below this are summed where they are written: handing them over takes longer.
_SMALL = 2**18
# Parts, of up to 8 MiB, that may wait for their checksums.
_MOST_WAITING = 3


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
    with replacement(path) as file:
        file.write(blank)
        sums = _write_tensors(file, kept)
        entries = {name: replace(entry, crcs=sums[name]) for name, entry in entries.items()}
        file.seek(0)
        file.write(header.render(manifest, entries, aliases))


def _blank(entry: Entry) -> Entry:
    # As long as the header with the real sums, which are known only once the tensors are written.
    return replace(entry, crcs=(0,) * chunk_count(entry.size))


def _check_readable(data: bytes) -> None:
    """Refuse to write what could not be read."""
    if len(data) > header.MAX_BYTES:
        raise ParamsError(
            f"the header takes {len(data):,} bytes of at most {header.MAX_BYTES:,}; store fewer tensors"
        )
    try:
        header.parse(data)
    except CheckpointError as error:
        raise ParamsError(f"this could be written but not read again: {error}") from error


def _write_tensors(file: BinaryIO, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Write tensors one after the other, and return the checksums of their chunks."""
    sums = {name: ChunkSums() for name in tensors}
    pending: deque[Future[None]] = deque()
    # One thread, so that the parts of a tensor are summed in order.
    with ThreadPoolExecutor(1, "argus-checksum") as pool:
        for name, part in _parts(tensors):
            if tensors[name].nbytes <= _SMALL:
                sums[name].add(part)
            else:
                pending.append(pool.submit(sums[name].add, part))
            file.write(part)
            # What waits is kept in memory.
            if len(pending) > _MOST_WAITING:
                pending.popleft().result()
        for future in pending:
            future.result()
    return {name: of_chunks.finish() for name, of_chunks in sums.items()}


def _parts(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, memoryview]]:
    from argus_core.storage import payload

    for name, tensor in tensors.items():
        for piece in payload.pieces(tensor):
            yield name, payload.view(piece)
