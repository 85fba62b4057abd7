"""The two forms of a checkpoint: one file, or a folder of shards, which a path in ``.sharded`` names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argus_core.errors import ParamsError
from argus_core.storage.file import FOLDER, SUFFIXES, CheckpointFile, read_file_header
from argus_core.storage.header import Header
from argus_core.storage.pieces import ALONE, Group, Piece

if TYPE_CHECKING:
    from torch import Tensor

    from argus_core.storage.folder import CheckpointFolder

__all__ = ["FOLDER", "SUFFIXES", "checkpoints_in", "is_folder", "open_stored", "read_header", "write"]


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Return whether a path names a checkpoint that is a folder, whether it exists or not."""
    return Path(path).suffix.lower() == FOLDER


def checkpoints_in(folder: Path) -> Iterator[Path]:
    """Yield the paths in a folder that are named as checkpoints of either form."""
    for suffix in SUFFIXES:
        yield from folder.glob(f"*{suffix}")


def open_stored(path: str | os.PathLike[str], sha256: str | None = None) -> CheckpointFile | CheckpointFolder:
    """Open a checkpoint of either form for reading; see `file.CheckpointFile`."""
    if _is_stored_as_folder(path):
        from argus_core.storage.folder import CheckpointFolder  # lazy: most checkpoints are files

        return CheckpointFolder(path, sha256)
    return CheckpointFile(path, sha256)


def read_header(path: str | os.PathLike[str], sha256: str | None = None) -> Header:
    """Return the header of a checkpoint of either form, without torch; see `open_stored`."""
    if not _is_stored_as_folder(path):
        return read_file_header(path, sha256)
    from argus_core.storage.folder import check_no_sha256, read_folder_header

    check_no_sha256(path, sha256)
    return read_folder_header(path)


def write(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor | Piece],
    manifest: dict[str, Any],
    group: Group = ALONE,
) -> None:
    """Write a checkpoint to ``path`` atomically, in the form that its suffix names, flushed to the disk.

    Args:
        path: the file or folder; its own folder is made, and an existing checkpoint is replaced.
        tensors: by name, on any device; several names of one tensor share one copy. A folder takes pieces.
        manifest: JSON-compatible data (see `encoding.encode`); the storage adds ``schema``, ``tensors`` and
            ``aliases``.
        group: the processes that write a folder together.

    Raises:
        ParamsError: a tensor, a name or the manifest cannot be stored.
        CheckpointError: writing failed; an existing checkpoint at ``path`` is unchanged.
    """
    if is_folder(path):
        from argus_core.storage.folder_writer import write_folder

        write_folder(path, tensors, manifest, group)
    else:
        from argus_core.storage.writer import write_file  # imports torch

        write_file(path, _whole(path, tensors), manifest)


def _whole(path: str | os.PathLike[str], tensors: Mapping[str, Tensor | Piece]) -> dict[str, Tensor]:
    """Return tensors for a file, which holds no pieces."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, Piece):
            raise ParamsError(
                f"{name!r} is a piece of a tensor, and {os.fspath(path)!r} is one file; give the whole "
                f"tensor, or a name that ends in {FOLDER}"
            )
        found[name] = tensor
    return found


def _is_stored_as_folder(path: str | os.PathLike[str]) -> bool:
    return is_folder(path) and not os.path.isfile(path)
