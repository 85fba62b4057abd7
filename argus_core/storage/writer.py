"""Writing a checkpoint: header and tensors, with checksums computed on the way."""

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
    """Write a checkpoint to ``path`` atomically, flushed to the disk.

    Args:
        path: the file; its folder is made, and an existing file is replaced.
        tensors: by name, on any device; several names of one tensor share one copy.
        manifest: JSON-compatible data (see `encoding.encode`); the storage adds ``schema``, ``tensors`` and
            ``aliases``.

    Raises:
        ParamsError: a tensor, a name or the manifest cannot be stored.
        CheckpointError: writing failed; an existing file at ``path`` is unchanged.
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
    """Return copies of tensors in host memory; names of one tensor share one copy.

    Raises:
        ParamsError: a tensor or its name cannot be stored.
    """
    kept, aliases = payload.stored_once(tensors)
    copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in kept.items()}
    return copies | {alias: copies[name] for alias, name in aliases.items()}


def _blank(entry: Entry) -> Entry:
    # A placeholder of the length of the real header, whose checksums are known once the tensors are written.
    return replace(entry, crcs=(0,) * chunk_count(entry.size))


def _check_readable(data: bytes, payload: int) -> None:
    """Raise for a header that could not be read back."""
    try:
        header.parse(data, payload)
    except CheckpointError as error:
        raise ParamsError(f"this could be written but not read again: {error}") from error


def _put_tensor(stream: Stream, tensor: Tensor) -> tuple[int, ...]:
    """Write a tensor's bytes, and return the checksums of its chunks."""
    sums = ChunkSums()
    for piece in payload.pieces(tensor):
        # The checksum covers the written copy, even if another thread continues to train.
        stream.put(payload.view(piece), sums)
    return sums.finish()
