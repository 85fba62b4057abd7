"""Reading a checkpoint from a folder of shards: the manifest, without torch, then tensors or parts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from argus_core.errors import CheckpointError, ParamsError, UnsafeCheckpointError
from argus_core.storage.entry import Entry
from argus_core.storage.file import owner_of
from argus_core.storage.folder_files import opened
from argus_core.storage.header import Header
from argus_core.storage.pieces import Box, even_part, is_cover, whole
from argus_core.storage.shard import OpenShard

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from argus_core.storage.parts_reader import Source

__all__ = ["CheckpointFolder", "check_no_sha256", "read_folder_header"]


class CheckpointFolder:
    """An open checkpoint in a folder of shards, whatever number of processes wrote it; a context manager.

    The header and the tensors come from one save even if another replaces the folder meanwhile.

    Args:
        path: the folder.
        sha256: not for folders.

    Attributes:
        header: of the whole checkpoint; its offsets have no meaning.

    Raises:
        CheckpointError: the folder is missing, not a checkpoint, or unreadable; see the subclasses.
    """

    header: Header

    def __init__(self, path: str | os.PathLike[str], sha256: str | None = None) -> None:
        self.path = Path(path)
        check_no_sha256(path, sha256)
        self._files = opened(self.path, with_shards=True)
        self.header = self._files.manifest.header

    def __enter__(self) -> CheckpointFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def allocated(self) -> int:
        """The bytes that the disk allocates for the shards: fewer than their size if sparse or compressed."""
        return self._files.allocated

    def close(self) -> None:
        """Close all files."""
        self._files.close()

    def read(
        self,
        names: Iterable[str] | None = None,
        device: torch.device | str = "cpu",
        verify: bool = True,
        into: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return whole tensors by name, reading only their bytes; see `file.CheckpointFile.read`."""
        header = self.header
        wanted = (*header.entries, *header.aliases) if names is None else names
        parts: dict[str, Box | None] = dict.fromkeys(wanted)
        return self.read_parts(parts, device, verify, into)

    def read_parts(
        self,
        parts: Mapping[str, Box | None],
        device: torch.device | str = "cpu",
        verify: bool = True,
        into: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return parts of tensors by name, reading little more than their bytes.

        Args:
            parts: the place of each part in its tensor; None for the whole. Names of one stored tensor, of
                which equal parts are read, share one tensor.
            device: of the returned tensors.
            verify: whether to check the bytes against their checksums.
            into: tensors to read into, by name, which are then returned if they have the part's form.

        Raises:
            CheckpointError: the checkpoint has no tensor of a name.
            ParamsError: a part does not lie in its tensor.
            CorruptCheckpointError: a tensor's bytes differ from its checksums.
        """
        from argus_core.storage.parts_reader import Wanted, read_parts  # imports torch

        known = {**self.header.aliases, **{name: name for name in self.header.entries}}
        with self._files.blamed():
            keys = {name: self._key(owner_of(name, known), box) for name, box in parts.items()}
            first = {key: name for name, key in reversed(keys.items())}
            wanted = {
                name: Wanted(self._form(*key), key[1], partial(self._sources, *key))
                for key, name in first.items()
            }
            tensors = read_parts(wanted, device, verify, self._rooms(keys, first, into or {}))
        return {name: tensors[first[key]] for name, key in keys.items()}

    def _rooms(
        self,
        keys: Mapping[str, tuple[str, Box]],
        first: Mapping[tuple[str, Box], str],
        into: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Return the tensors to read into by the first name of each; the owner's own goes before others'."""
        rooms: dict[str, Tensor] = {}
        for name, tensor in into.items():
            if name in keys and (name == keys[name][0] or first[keys[name]] not in rooms):
                rooms[first[keys[name]]] = tensor
        return rooms

    def _key(self, owner: str, box: Box | None) -> tuple[str, Box]:
        shape = self.header.entries[owner].shape
        box = whole(shape) if box is None else box
        if not box.fits(shape):
            raise ParamsError(
                f"the part {list(box.shape)} at {list(box.offset)} does not lie in {owner!r} of the shape "
                f"{list(shape)}; give a part that does"
            )
        return owner, box

    def _form(self, owner: str, box: Box) -> Entry:
        entry = self.header.entries[owner]
        return Entry(entry.dtype, box.shape, entry.memory_format)

    def _sources(self, name: str, wanted: Box) -> list[Source]:
        """Return the stored pieces of a tensor that may hold some of a part of it."""
        from argus_core.storage.parts_reader import Source

        entry = self.header.entries[name]
        return [
            Source(
                shard.name, shard.file, shard.header.payload_start, self._piece(shard, name, entry, box), box
            )
            for shard, box in self._places(name, entry, wanted)
        ]

    def _places(self, name: str, entry: Entry, wanted: Box) -> list[tuple[OpenShard, Box]]:
        place, count = self._files.manifest.places[name], len(self._files.manifest.shards)
        if "shard" in place:
            return [(self._files.shard(place["shard"]), whole(entry.shape))] if wanted.count else []
        if "split" in place:
            boxes = [
                (number, even_part(entry.shape, place["split"], number, count)) for number in range(count)
            ]
            return [(self._files.shard(number), box) for number, box in boxes if box.overlap(wanted)]
        found = []
        for number in range(count):
            shard = self._files.shard(number)
            if name in shard.header.entries:
                stored = shard.header.entries[name].shape
                found.append((shard, Box(shard.offsets.get(name, (0,) * len(stored)), stored)))
        if not is_cover(entry.shape, [box for _, box in found]):
            raise UnsafeCheckpointError(
                f"the shards hold other pieces of {name!r} than make it up; do not trust this folder"
            )
        return found

    def _piece(self, shard: OpenShard, name: str, entry: Entry, box: Box) -> Entry:
        """Return the entry of a piece in its shard, once it is what the manifest says."""
        stored = shard.header.entries.get(name)
        offset = shard.offsets.get(name, (0,) * len(entry.shape))
        if stored is None or (stored.dtype, stored.shape, offset) != (entry.dtype, box.shape, box.offset):
            raise UnsafeCheckpointError(
                f"{shard.name} holds another piece of {name!r} than the manifest says; do not trust this "
                "folder"
            )
        return stored


def check_no_sha256(path: str | os.PathLike[str], sha256: str | None) -> None:
    """Raise if a SHA-256 is given for a folder, which has none."""
    if sha256 is not None:
        raise CheckpointError(
            f"{path} is a folder, and sha256 pins one file; convert it to one (argus convert), or leave "
            "sha256 out"
        )


def read_folder_header(path: str | os.PathLike[str]) -> Header:
    """Return the header of a folder from its manifest, without torch; shards are only looked for."""
    with opened(Path(path), with_shards=False) as files:
        return files.manifest.header
