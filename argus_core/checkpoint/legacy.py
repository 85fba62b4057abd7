"""Checkpoints of pytorch-argus (``.pth``): their contents, and a reader that runs no code from the file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from argus_core.checkpoint.abstract_saved import AbstractSaved, Numbered
from argus_core.checkpoint.module_state import form_of
from argus_core.checkpoint.records import record_of
from argus_core.checkpoint.sections import has_names
from argus_core.errors import CheckpointError, UnsafeCheckpointError
from argus_core.files.archive import check_archive
from argus_core.storage.file import open_file, verify_sha256
from argus_core.storage.plain_file import unchanged

__all__ = ["SavedState", "check_legacy_state", "read_legacy", "read_pickled"]

_KEYS = ("model_name", "params", "nn_state_dict")
# Levels of nested containers, and values in all of them; shared values count each time, as when copied.
_MAX_LEVELS = 64
_MAX_VALUES = 2**20
# Bytes that views of the file's tensors may take beside twice the file.
_BESIDE = 128 * 2**20
# Bytes that torch reads beside an archive's entries, rounded up.
_ROOM = 2**16


class SavedState(AbstractSaved):
    """The contents of a checkpoint in the form of pytorch-argus, in memory.

    Raises:
        CheckpointError: it has another form.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        check_legacy_state(state)
        self.legacy_state = self._state = state
        self.model = record_of(state["model_name"], None)
        self.components = {}

    @classmethod
    def is_format_of(cls, path: Path) -> bool:
        """Return whether the file is an archive or a pickle as `torch.save` writes them."""
        try:
            if not path.is_file():  # opening a pipe waits for its other end
                return False
            with path.open("rb") as file:
                start = file.read(9)
        except (OSError, ValueError):  # for a name that no file can have
            return False
        # A safetensors file begins with the header's length, any 8 bytes, and a brace.
        if start[8:] == b"{":
            return False
        return start[:2] == b"PK" or (start[:1] == b"\x80" and path.suffix in (".pth", ".pt"))

    @classmethod
    def open(cls, path: Path, verify: bool, sha256: str | None) -> SavedState:
        return cls(read_legacy(path, sha256))

    def size(self) -> int:
        tensors = [value for value in self._state["nn_state_dict"].values() if isinstance(value, Tensor)]
        storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage() for tensor in tensors}
        return sum(storage.nbytes() for storage in storages.values())

    def params(self) -> dict[str, Any]:
        return dict(self._state["params"])

    def forms(self, part: str) -> dict[str, str]:
        return {name: form_of(value) for name, value in self.module_state(part).items()}

    def read(self, part: str, into: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
        return self.module_state(part)

    def module_state(self, part: str) -> dict[str, Any]:
        return dict(self._state["nn_state_dict"]) if part == "nn_module" else {}

    def step_state(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        return {}

    def optimizer_outline(self) -> Numbered:
        return self.optimizer_state()

    def optimizer_state(self) -> Numbered:
        return self._state.get("optimizer_state_dict"), None


def check_legacy_state(state: Any) -> None:
    """Raise for a state, from a file or from the user, without the form of a pytorch-argus checkpoint."""
    state = state if isinstance(state, Mapping) else {}
    forms = {"model_name": str, "params": Mapping, "nn_state_dict": Mapping}
    wrong = [key for key, form in forms.items() if not isinstance(state.get(key), form)]
    if "nn_state_dict" not in wrong and not has_names(state["nn_state_dict"]):
        wrong.append("nn_state_dict")
    if not isinstance(state.get("optimizer_state_dict"), Mapping | None):
        wrong.append("optimizer_state_dict")
    if wrong:
        raise CheckpointError(
            f"the saved state has no valid {', '.join(wrong)}; it takes model_name (a string), params, "
            "nn_state_dict (with strings for keys) and perhaps optimizer_state_dict (dicts)"
        )


def read_legacy(file_path: Path, sha256: str | None = None) -> dict[str, Any]:
    """Return the contents of the file, with tensors on the CPU; see `read_pickled`.

    These are ``model_name``, ``params``, ``nn_state_dict`` and perhaps ``optimizer_state_dict``.

    Args:
        file_path: the file.
        sha256: the expected SHA-256 of the whole file, in hexadecimal, if it must be checked.

    Raises:
        CorruptCheckpointError: the archive is damaged.
        UnsafeCheckpointError: the archive is compressed, declares a wrong size, or names other objects.
        CheckpointError: it is not a pytorch-argus checkpoint.
    """
    state = read_pickled(file_path, sha256)
    if not isinstance(state, dict) or any(key not in state for key in _KEYS):
        raise CheckpointError(
            f"{file_path} is not a pytorch-argus checkpoint: it lacks {', '.join(_KEYS)}; "
            "read it with torch.load(weights_only=True), or give state_load_func"
        )
    return state


def read_pickled(file_path: Path, sha256: str | None = None) -> Any:
    """Return what `torch.save` wrote to a file: tensors, on the CPU, and plain data.

    The archive is checked first and then read by torch's restricted unpickler, which builds only tensors and
    plain data. The checked file is the one that is read, even if another file takes its name meanwhile.

    Raises:
        CorruptCheckpointError: the archive is damaged, or was written to meanwhile.
        UnsafeCheckpointError: the archive is compressed, declares a wrong size, or names other objects.
    """
    with open_file(file_path) as file, unchanged(file, file_path):
        if sha256 is not None:
            verify_sha256(file_path, sha256, file)
        check_archive(file_path, file)
        size = os.fstat(file.fileno()).st_size
        state = _unpickled(_Measured(file, 2 * size + _ROOM), file_path)
    _check_sizes(state, file_path, size)
    return state


class _Measured(FileIO):
    """A view of a file from its beginning that limits the total of bytes read.

    torch reads a storage once for each key that a pickle has for it, and accepts many keys for one name.
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
    except Exception as error:  # of any type: the unpickler raises many, all for a bad file
        if file.left < 0:
            raise _claims_too_much(file_path) from error
        # Without what torch says around it, which is to try weights_only=False.
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
        raise UnsafeCheckpointError(
            f"{file_path} does not hold tensors and plain data as torch.save writes them ({reason}); save it "
            "again from code that you trust"
        ) from error


def _check_sizes(state: Any, file_path: Path, size: int) -> None:
    """Raise where copies of the tensors and containers would take far more memory than the file has bytes.

    A tensor under many names counts once, as it does in the built network.
    """
    scales = _Scales()
    try:
        values = scales.weigh(state).values
        # The optimizer copies each of these, also where they share memory.
        optimizer = dict.get(state, "optimizer_state_dict") if isinstance(state, dict) else None
        copied = scales.weigh(optimizer).size
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
    """The size of a value: levels of containers, the number of values, bytes of tensors."""

    levels: int = 0
    values: int = 1
    size: int = 0


class _Scales:
    """The measurement of nested containers; shared values count each time and are measured once.

    Attributes:
        largest: the bytes of the largest tensor so far.
        total: the bytes of all tensors so far that are not the same numbers in the same order.
    """

    def __init__(self) -> None:
        self.largest = self.total = 0
        self._views: set[tuple[object, ...]] = set()
        self._known: dict[int, _Weight] = {}

    def weigh(self, value: object, levels: int = _MAX_LEVELS) -> _Weight:
        """Return the weight of a value.

        Raises:
            RecursionError: it has more than ``levels`` levels, or contains itself.
            TypeError: it contains a value that is neither a tensor nor plain data.
        """
        if isinstance(value, Tensor):
            size = value.numel() * value.element_size()
            self.largest = max(self.largest, size)
            view = (value.data_ptr(), value.shape, value.stride(), value.dtype)
            if view not in self._views:
                self._views.add(view)
                self.total += size
            return _Weight(size=size)
        # A dict's attribute may replace a method; a storage may declare any size, without data.
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
