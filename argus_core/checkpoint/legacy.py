"""Checkpoints of pytorch-argus (``.pth``), read without running anything they hold."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from argus_core.errors import CheckpointError, UnsafeCheckpointError
from argus_core.files.archive import check_archive
from argus_core.storage.file import check_sha256, open_file

__all__ = ["is_legacy", "read_legacy"]

_KEYS = ("model_name", "params", "nn_state_dict")
# Containers in containers, and values in all of them: what is met twice counts twice, as it does when copied.
_MAX_LEVELS = 64
_MAX_VALUES = 2**20
# Bytes that views of the file's tensors may take beside twice the file.
_BESIDE = 128 * 2**20
# Bytes that torch reads beside an archive's entries, and more.
_ROOM = 2**16


def is_legacy(file_path: Path) -> bool:
    """Return whether the file is an archive or a pickle as `torch.save` writes them."""
    try:
        if not file_path.is_file():  # opening a pipe waits for its other end
            return False
        with file_path.open("rb") as file:
            start = file.read(9)
    except (OSError, ValueError):  # of a name that no file can have
        return False
    # A safetensors file begins with the header's length in 8 bytes, which can be any, and a brace.
    if start[8:] == b"{":
        return False
    return start[:2] == b"PK" or (start[:1] == b"\x80" and file_path.suffix in (".pth", ".pt"))


def read_legacy(file_path: Path, sha256: str | None = None) -> dict[str, Any]:
    """Return what the file holds, with tensors on the CPU.

    That is ``model_name``, ``params``, ``nn_state_dict`` and perhaps ``optimizer_state_dict``. The
    archive is checked first and then read by torch's restricted unpickler, which builds tensors and
    plain data only. What is checked is what is read, even if another file takes its name meanwhile.

    Args:
        file_path: the file.
        sha256: the whole file's SHA-256 in hexadecimal, if it must be that very file.

    Raises:
        CorruptCheckpointError: the archive is damaged.
        UnsafeCheckpointError: it is compressed, lies about its size, or asks for other objects.
        CheckpointError: it is not a pytorch-argus checkpoint.
    """
    with open_file(file_path) as file:
        if sha256 is not None:
            check_sha256(file_path, sha256, file)
        check_archive(file_path, file)
        size = os.fstat(file.fileno()).st_size
        state = _unpickled(_Measured(file, 2 * size + _ROOM), file_path)
    if not isinstance(state, dict) or any(key not in state for key in _KEYS):
        raise CheckpointError(
            f"{file_path} is no pytorch-argus checkpoint: it lacks {', '.join(_KEYS)}; "
            "read it with torch.load(weights_only=True), or give state_load_func"
        )
    _check_sizes(state, file_path, size)
    return state


class _Measured(FileIO):
    """Another file from its beginning, of which no more than so many bytes are read.

    torch reads a storage as often as a pickle has keys for it, and takes many keys for one name.
    """

    def __init__(self, file: FileIO, most: int) -> None:
        super().__init__(file.fileno(), closefd=False)
        self.left = most
        self.seek(0)

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        self.left -= count
        if self.left < 0:
            raise EOFError
        return count


def _unpickled(file: _Measured, file_path: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler's errors have many types; all mean the same here
        if file.left < 0:
            raise _claims_too_much(file_path) from error
        raise UnsafeCheckpointError(
            f"{file_path} does not hold tensors and plain data as torch.save writes them "
            f"({str(error).partition(chr(10))[0]}); save it again from code that you trust"
        ) from error


def _check_sizes(state: dict[str, Any], file_path: Path, size: int) -> None:
    """Refuse tensors and containers that would take far more memory, once they are copied, than the file has.

    What is one tensor under many names counts once: a network that is built has one, too.
    """
    scales = _Scales()
    try:
        values = scales.weigh(state).values
        # Of these, the optimizer makes a copy each, whatever they have in common.
        copied = scales.weigh(dict.get(state, "optimizer_state_dict")).size
    except RecursionError:
        raise UnsafeCheckpointError(
            f"{file_path} has more than {_MAX_LEVELS} levels, or something that holds itself; do not load it"
        ) from None
    except TypeError:
        raise UnsafeCheckpointError(
            f"{file_path} holds objects that are not tensors or plain data; do not load it"
        ) from None
    if values > _MAX_VALUES or max(copied, scales.largest) > size or scales.total > 2 * size + _BESIDE:
        raise _claims_too_much(file_path)


def _claims_too_much(file_path: Path) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(f"{file_path} claims more data than it has; do not load it")


class _Weight(NamedTuple):
    """What is in a value: levels of containers, values with itself, bytes of tensors."""

    levels: int = 0
    values: int = 1
    size: int = 0


class _Scales:
    """Weighs nested containers; what is met twice counts twice, and takes no longer.

    Attributes:
        largest: the bytes of the largest tensor so far.
        total: the bytes of all tensors so far that are not the same numbers in the same order.
    """

    def __init__(self) -> None:
        self.largest = self.total = 0
        self._views: set[tuple[object, ...]] = set()
        self._known: dict[int, _Weight] = {}

    def weigh(self, value: object, levels: int = _MAX_LEVELS) -> _Weight:
        """Return what is in a value.

        Raises:
            RecursionError: it has more than ``levels`` levels, or no end of them.
            TypeError: something in it is not tensors or plain data.
        """
        if isinstance(value, Tensor):
            size = value.numel() * value.element_size()
            self.largest = max(self.largest, size)
            view = (value.data_ptr(), value.shape, value.stride(), value.dtype)
            if view not in self._views:
                self._views.add(view)
                self.total += size
            return _Weight(size=size)
        # An attribute of a dict may stand in the place of a method; a storage is of any size, without data.
        is_odd = isinstance(value, dict) and not getattr(value, "__dict__", {}).keys() <= {"_metadata"}
        if is_odd or isinstance(value, torch.UntypedStorage | torch.TypedStorage):
            raise TypeError
        if not isinstance(value, dict | list | tuple | set):
            return _Weight()
        if id(value) not in self._known:
            if levels == 0:
                raise RecursionError
            items = [*value, *value.values()] if isinstance(value, dict) else value
            parts = [self.weigh(item, levels - 1) for item in items]
            self._known[id(value)] = _Weight(
                1 + max((part.levels for part in parts), default=0),
                1 + sum(part.values for part in parts),
                sum(part.size for part in parts),
            )
        known = self._known[id(value)]
        if known.levels > levels:
            raise RecursionError
        return known
