"""Data files: reading .npy, .npz, .csv and .safetensors as a dataset, and writing predictions.

A file to predict from holds ``input`` and optionally ``target``: arrays of those names, or a single array.
In CSV a header may name a column ``target``; without it all columns are inputs.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from safetensors.torch import save
from torch import Tensor
from torch.utils.data import TensorDataset

from argus_core.data.arrays import Unsuitable, read_csv, read_npy, read_npz, read_safetensors
from argus_core.data.arrays.claim import FAULTS, shortened
from argus_core.data.arrays.npy import numpy
from argus_core.errors import ArgusError
from argus_core.files.ordinary_files import open_ordinary
from argus_core.storage.replacement import replacement

__all__ = ["SUFFIXES", "check_writable", "is_data_file", "read_dataset", "write_tensors"]

SUFFIXES = (".npy", ".npz", ".csv", ".safetensors")

_KNOWN = ", ".join(SUFFIXES)


def is_data_file(data: str) -> bool:
    """Return whether ``data`` is the path of a data file rather than a dataset's name."""
    return Path(data).suffix.lower() in SUFFIXES


def read_dataset(path: Path) -> TensorDataset:
    """Return a dataset of the samples in a file: ``(input, target)``, or ``(input,)`` without targets.

    Floating-point numbers have torch's default dtype, integer targets int64.

    Raises:
        ArgusError: the file does not exist, or has other contents.
    """
    try:
        with open_ordinary(path) as file:
            return _dataset(_read(file, path), path)
    except FileNotFoundError:
        raise ArgusError(f"no data file {str(path)!r}; check the path") from None
    except OSError as error:
        raise ArgusError(f"cannot read {str(path)!r}: {error.strerror or error}; check the path") from error
    except ValueError as error:
        raise ArgusError(f"data file {str(path)!r} {error}") from error


def check_writable(path: Path) -> None:
    """Check, before a long computation, that `write_tensors` can write to ``path``.

    Raises:
        ArgusError: the suffix is unknown, or the folder does not exist.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ArgusError(f"cannot write {str(path)!r}; give a name that ends in one of {_KNOWN}")
    if not path.parent.is_dir():
        raise ArgusError(
            f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}; make it first"
        )


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to ``path`` in the format of its suffix; a complete file replaces an existing one.

    An .npy file takes only the first tensor; in CSV each row is a sample.

    Raises:
        ArgusError: the file cannot be written.
    """
    check_writable(path)
    with replacement(path, "file") as file:
        _WRITERS[path.suffix.lower()](file, tensors)


def _read(file: FileIO, path: Path) -> dict[str, Tensor]:
    try:
        return _READERS[path.suffix.lower()](file)
    except Unsuitable as error:
        raise ArgusError(f"{path} {error}") from error
    except FAULTS as error:
        raise ArgusError(
            f"{path} does not hold plain arrays of numbers ({shortened(error)}); write it again"
        ) from error


def _dataset(tensors: Mapping[str, Tensor], path: Path) -> TensorDataset:
    lengths = {name: len(tensor) if tensor.numel() else 0 for name, tensor in tensors.items() if tensor.ndim}
    if len(set(lengths.values())) != 1 or 0 in lengths.values() or len(lengths) < len(tensors):
        counts = " and ".join(f"{lengths.get(name, 0)} of {name}" for name in tensors)
        raise ArgusError(f"{path} holds {counts}; give one or more samples, as many of each")
    return TensorDataset(*(tensors[name] for name in ("input", "target") if name in tensors))


def _to_numpy(tensor: Tensor) -> Any:
    try:
        return tensor.numpy()
    except TypeError:  # numpy has neither bfloat16 nor float8
        return tensor.float().numpy()


def _write_npy(file: BinaryIO, tensors: Mapping[str, Tensor]) -> None:
    numpy().save(file, _to_numpy(next(iter(tensors.values()))))


def _write_npz(file: BinaryIO, tensors: Mapping[str, Tensor]) -> None:
    numpy().savez(file, **{name: _to_numpy(tensor) for name, tensor in tensors.items()})


def _write_safetensors(file: BinaryIO, tensors: Mapping[str, Tensor]) -> None:
    file.write(save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def _write_csv(file: BinaryIO, tensors: Mapping[str, Tensor]) -> None:
    if len({len(tensor) for tensor in tensors.values()}) > 1:
        raise ArgusError(
            "a .csv file cannot hold predictions and targets of different lengths; write an .npz file"
        )
    columns: dict[str, list[Any]] = {}
    for name, tensor in tensors.items():
        flat = tensor.reshape(len(tensor), -1)
        labels = [name] if flat.shape[1] == 1 else [f"{name}_{index}" for index in range(flat.shape[1])]
        columns.update(zip(labels, flat.T.tolist(), strict=True))
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    text.detach()  # leaves the file open


_READERS: dict[str, Callable[[FileIO], dict[str, Tensor]]] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".csv": read_csv,
    ".safetensors": read_safetensors,
}
_WRITERS: dict[str, Callable[[BinaryIO, Mapping[str, Tensor]], None]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".csv": _write_csv,
    ".safetensors": _write_safetensors,
}
