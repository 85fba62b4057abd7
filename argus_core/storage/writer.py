"""Writing a checkpoint: a stream of the tensors, summed as they pass."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from argus_core.errors import CheckpointError, ParamsError
from argus_core.storage import header, payload
from argus_core.storage.crc import ChunkSums, chunk_count
from argus_core.storage.entry import Entry
from argus_core.storage.manifest import SCHEMA
from argus_core.storage.replacement import replacement
from argus_core.storage.stream import Stream

__all__ = ["copied", "write"]


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
    manifest = {"schema": SCHEMA, **manifest}
    kept, aliases = payload.stored_once(tensors)
    entries = header.place({name: _blank(payload.entry_of(tensor)) for name, tensor in kept.items()})
    blank = header.render(manifest, entries, aliases)
    _check_readable(blank, sum(entry.size for entry in entries.values()))
    with replacement(path) as file:
        with Stream(file) as stream:
            stream.put(blank)
            sums = {name: _put_tensor(stream, tensor) for name, tensor in kept.items()}
        entries = {name: replace(entry, crcs=sums[name]) for name, entry in entries.items()}
        file.seek(0)
        file.write(header.render(manifest, entries, aliases))


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies in main memory, that nothing else changes; what is one tensor stays one.

    Raises:
        ParamsError: a tensor, or its name, is not one that can be stored.
    """
    kept, aliases = payload.stored_once(tensors)
    copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in kept.items()}
    return copies | {alias: copies[name] for alias, name in aliases.items()}


def _blank(entry: Entry) -> Entry:
    # As long as the header with the real sums, which are known only once the tensors are written.
    return replace(entry, crcs=(0,) * chunk_count(entry.size))


def _check_readable(data: bytes, payload: int) -> None:
    """Refuse to write what could not be read."""
    try:
        header.parse(data, payload)
    except CheckpointError as error:
        raise ParamsError(f"this could be written but not read again: {error}") from error


def _put_tensor(stream: Stream, tensor: Tensor) -> tuple[int, ...]:
    """Write a tensor's bytes, and return the checksums of its chunks."""
    sums = ChunkSums()
    for piece in payload.pieces(tensor):
        # Summed is what is written, even if another thread goes on training.
        stream.put(payload.view(piece), sums)
    return sums.finish()
