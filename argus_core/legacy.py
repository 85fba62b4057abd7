"""Checkpoints of pytorch-argus (``.pth``), read without running anything they hold."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from argus_core.errors import CheckpointError, CorruptCheckpointError, UnsafeCheckpointError

__all__ = ["is_legacy", "read_legacy"]

_KEYS = ("model_name", "params", "nn_state_dict")


def is_legacy(file_path: Path) -> bool:
    """Return whether the file is an archive or a pickle as `torch.save` writes them."""
    try:
        with file_path.open("rb") as file:
            start = file.read(9)
    except (OSError, ValueError):  # of a name that no file can have
        return False
    # A safetensors file begins with the header's length in 8 bytes, which can be any, and a brace.
    if start[8:] == b"{":
        return False
    return start[:2] == b"PK" or (start[:1] == b"\x80" and file_path.suffix in (".pth", ".pt"))


def read_legacy(file_path: Path) -> dict[str, Any]:
    """Return what the file holds, with tensors on the CPU.

    That is ``model_name``, ``params``, ``nn_state_dict`` and perhaps ``optimizer_state_dict``. The
    archive is checked first and then read by torch's restricted unpickler, which builds tensors and
    plain data only.

    Raises:
        CorruptCheckpointError: the archive is damaged.
        UnsafeCheckpointError: it is compressed, lies about its size, or asks for other objects.
        CheckpointError: it is not a pytorch-argus checkpoint.
    """
    _check_archive(file_path)
    try:
        state = torch.load(file_path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler's errors have many types; all mean the same here
        raise UnsafeCheckpointError(
            f"{file_path} asks for objects that are not tensors or plain data "
            f"({str(error).splitlines()[0]}); save it again from code that you trust"
        ) from error
    if not isinstance(state, dict) or any(key not in state for key in _KEYS):
        raise CheckpointError(
            f"{file_path} is no pytorch-argus checkpoint: it lacks {', '.join(_KEYS)}; "
            "read it with torch.load(weights_only=True), or give state_load_func"
        )
    return state


def _check_archive(file_path: Path) -> None:
    """Refuse an archive that would grow in memory or whose entries are not what was written."""
    try:
        with zipfile.ZipFile(file_path) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise UnsafeCheckpointError(
                    f"{file_path} is compressed, which torch.save never does; do not load it"
                )
            if len({entry.filename for entry in entries}) < len(entries):
                raise UnsafeCheckpointError(f"{file_path} has two entries of one name; do not load it")
            if sum(entry.file_size for entry in entries) > file_path.stat().st_size:
                raise UnsafeCheckpointError(f"{file_path} claims more data than it has; do not load it")
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise CorruptCheckpointError(
            f"{file_path} is damaged, or older than torch 1.6's archive format ({error}); "
            "restore it, or save it again with a newer torch"
        ) from error
    if damaged is not None:
        raise CorruptCheckpointError(f"{file_path} is damaged in {damaged!r}; restore it from a copy")
