"""Writing a checkpoint, with checksums computed on the way, or a plain safetensors file."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, BinaryIO

from torch import Tensor

from argus_core.errors import CheckpointError, ParamsError
from argus_core.storage import header, linux, payload
from argus_core.storage.crc import ChunkSums, chunk_count
from argus_core.storage.entry import Entry, is_plain
from argus_core.storage.manifest import SCHEMA
from argus_core.storage.pieces import Piece
from argus_core.storage.replacement import replacement
from argus_core.storage.threads import Threads

__all__ = ["copied", "outline", "put", "write_file", "write_plain"]

# Bytes. A block fits into the processor's cache, so that checksum and system call are fast.
_BLOCK = 2**20
_BLOCKS = 4
_BEGUN_AT_ONCE = 2**23


def write_file(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], manifest: dict[str, Any]) -> None:
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
    blank = outline(kept, manifest, aliases)
    with replacement(path) as file:
        put(file, blank, kept, manifest, aliases)


def outline(kept: Mapping[str, Tensor], manifest: dict[str, Any], aliases: dict[str, str]) -> bytes:
    """Return the header of a file before its checksums are known.

    Args:
        kept: the tensors to store, in order; see `payload.stored_once`.
        manifest: with its schema number.
        aliases: other names of the tensors.

    Raises:
        ParamsError: the header could not be read back.
    """
    entries = header.place({name: _blank(payload.entry_of(tensor)) for name, tensor in kept.items()})
    blank = header.render(manifest, entries, aliases)
    _check_readable(blank, sum(entry.size for entry in entries.values()))
    return blank


def put(
    file: BinaryIO,
    blank: bytes,
    kept: Mapping[str, Tensor],
    manifest: dict[str, Any],
    aliases: dict[str, str],
) -> bytes:
    """Write tensors behind their header into an empty file, and return the header; see `outline`."""
    with _Stream(file) as stream:
        stream.put(blank)
        sums = {name: _put_tensor(stream, tensor) for name, tensor in kept.items()}
    entries = {name: replace(payload.entry_of(tensor), crcs=sums[name]) for name, tensor in kept.items()}
    complete = header.render(manifest, header.place(entries), aliases)
    file.seek(0)
    file.write(complete)
    return complete


def write_plain(path: str | os.PathLike[str], tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file without a manifest, for other programs, to ``path`` atomically.

    A tensor with several names is written once per name, since the format has no aliases. Copies take some
    MiB at a time.

    Raises:
        ParamsError: the format does not have a tensor's dtype or a name.
        CheckpointError: writing failed; an existing file at ``path`` is unchanged.
    """
    kept, aliases = payload.stored_once(tensors)
    named = kept | {alias: kept[owner] for alias, owner in aliases.items()}
    forms = {name: payload.entry_of(tensor) for name, tensor in named.items()}
    for name, form in forms.items():
        if not is_plain(form.dtype):
            raise ParamsError(f"tensor {name!r} has dtype {form.dtype}, not one of the format")
    entries = header.place(dict(sorted(forms.items(), key=lambda item: (-item[1].alignment, item[0]))))
    with replacement(path, "file") as file:
        file.write(header.render_plain(entries))
        for name in entries:
            for piece in payload.pieces(named[name]):
                file.write(payload.view(piece))


def copied(tensors: Mapping[str, Tensor | Piece]) -> dict[str, Tensor | Piece]:
    """Return copies of tensors and pieces in host memory; names of one tensor share one copy.

    Raises:
        ParamsError: a tensor or its name cannot be stored.
    """
    local = {name: each.tensor if isinstance(each, Piece) else each for name, each in tensors.items()}
    kept, aliases = payload.stored_once(local)
    copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in kept.items()}
    copies |= {alias: copies[name] for alias, name in aliases.items()}
    return {
        name: replace(each, tensor=copies[name]) if isinstance(each, Piece) else copies[name]
        for name, each in tensors.items()
    }


def _blank(entry: Entry) -> Entry:
    # A placeholder of the length of the real header, whose checksums are known once the tensors are written.
    return replace(entry, crcs=(0,) * chunk_count(entry.size))


def _check_readable(data: bytes, payload: int) -> None:
    """Raise for a header that could not be read back."""
    try:
        header.parse(data, payload)
    except CheckpointError as error:
        raise ParamsError(f"this could be written but not read again: {error}") from error


def _put_tensor(stream: _Stream, tensor: Tensor) -> tuple[int, ...]:
    """Write a tensor's bytes, and return the checksums of its chunks."""
    sums = ChunkSums()
    for piece in payload.pieces(tensor):
        # The checksum covers the written copy, even if another thread continues to train.
        stream.put(payload.view(piece), sums)
    return sums.finish()


class _Stream:
    """Sequential writing of a file in aligned blocks; a context manager.

    Unaligned writes take half as long again. One block is filled and its checksum computed while others are
    written. Writing to the disk starts early, not at the end; the caller must still call `os.fsync`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._block = memoryview(bytearray(_BLOCK))
        self._used = 0
        self._writing: deque[tuple[Future[None], memoryview]] = deque()
        self._written = self._begun = 0
        self._writer = Threads(1, "argus-write")

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            if error is None:
                self._send_block()
                while self._writing:
                    self._written_block()
        finally:
            self._writer.stop(discard=True)

    def put(self, data: memoryview | bytes, sums: ChunkSums | None = None) -> None:
        """Copy bytes into the current block to be written, and add the copy to ``sums``."""
        view = memoryview(data)
        while view:
            part = self._block[self._used : self._used + len(view)]
            part[:] = view[: len(part)]
            if sums is not None:
                sums.add(part)
            self._used += len(part)
            view = view[len(part) :]
            if self._used == _BLOCK:
                self._send_block()

    def _send_block(self) -> None:
        """Submit the current block for writing, and take another."""
        self._writing.append((self._writer.submit(self._write, self._block[: self._used]), self._block))
        full = len(self._writing) == _BLOCKS
        self._block = self._written_block() if full else memoryview(bytearray(_BLOCK))
        self._used = 0

    def _written_block(self) -> memoryview:
        """Wait for the oldest submitted block to be written, and return it."""
        done, block = self._writing.popleft()
        done.result()
        return block

    def _write(self, data: memoryview) -> None:
        self._file.write(data)
        self._written += len(data)
        if self._written - self._begun >= _BEGUN_AT_ONCE:
            linux.begin_writing(self._file.fileno(), self._begun, self._written - self._begun)
            self._begun = self._written
