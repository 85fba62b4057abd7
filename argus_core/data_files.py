"""Named tensors in data files: .npy, .npz, .csv and .safetensors, read as a dataset and written.

A file to predict from holds ``input`` and perhaps ``target``: arrays of those names, or one array alone;
in CSV a header with a column ``target``, or inputs in all columns.
"""

from __future__ import annotations

import csv
import importlib
import io
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.utils.data import TensorDataset

from argus_core.errors import ArgusError
from argus_core.storage.replacement import replacement

__all__ = ["SUFFIXES", "check_writable", "is_data_file", "read_dataset", "write_tensors"]

SUFFIXES = (".npy", ".npz", ".csv", ".safetensors")

_KNOWN = ", ".join(SUFFIXES)
_FAULTS = (
    ValueError, TypeError, KeyError, EOFError, csv.Error, zipfile.BadZipFile, zlib.error, SafetensorError
)  # fmt: skip


def is_data_file(data: str) -> bool:
    """Return whether ``data`` is the path of a data file rather than a dataset's name."""
    return Path(data).suffix.lower() in SUFFIXES


def read_dataset(path: Path) -> TensorDataset:
    """Return the samples in a file: ``(input, target)``, or ``(input,)`` where it has no targets.

    Numbers with a point come as torch's default dtype, the targets without one as int64.

    Raises:
        ArgusError: there is no such file, or it holds something else.
    """
    read = _READERS[path.suffix.lower()]
    try:
        tensors = read(path)
    except FileNotFoundError:
        raise ArgusError(f"no data file {str(path)!r}; check the path") from None
    except OSError as error:
        raise ArgusError(f"cannot read {str(path)!r}: {error.strerror or error}; check the path") from error
    except _FAULTS as error:
        raise ArgusError(f"{path} does not hold plain arrays of numbers ({error}); write it anew") from error
    return _dataset(tensors, path)


def check_writable(path: Path) -> None:
    """Check before a long computation that `write_tensors` can write to ``path``.

    Raises:
        ArgusError: the suffix is not known, or there is no such folder.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ArgusError(f"cannot write {str(path)!r}; give a name that ends in one of {_KNOWN}")
    if not path.parent.is_dir():
        raise ArgusError(
            f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}; make it first"
        )


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to ``path`` in the format of its suffix; what is there is replaced once they are written.

    An .npy file takes the first of them alone; in CSV each row is a sample.

    Raises:
        ArgusError: the file cannot be written.
    """
    check_writable(path)
    with replacement(path, "file") as file:
        _WRITERS[path.suffix.lower()](file, tensors)


def _dataset(tensors: Mapping[str, Tensor], path: Path) -> TensorDataset:
    if len(tensors) == 1:
        tensors = {"input": next(iter(tensors.values()))}
    if "input" not in tensors or not set(tensors) <= {"input", "target"}:
        raise ArgusError(f"{path} holds {', '.join(tensors) or 'nothing'}; name its arrays input and target")
    lengths = {name: len(tensor) if tensor.ndim else 0 for name, tensor in tensors.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        counts = " and ".join(f"{count} of {name}" for name, count in lengths.items())
        raise ArgusError(f"{path} holds {counts}; give one or more samples, as many of each")
    return TensorDataset(
        *(_in_usual_dtype(name, tensors[name]) for name in ("input", "target") if name in tensors)
    )


def _in_usual_dtype(name: str, tensor: Tensor) -> Tensor:
    if tensor.is_floating_point():
        return tensor.to(torch.get_default_dtype())
    whole = name == "target" and tensor.dtype is not torch.bool and not tensor.is_complex()
    return tensor.to(torch.int64) if whole else tensor


def _numpy() -> Any:
    try:
        return importlib.import_module("numpy")
    except ImportError as error:
        raise ArgusError("files in .npy and .npz need numpy: pip install numpy") from error


def _from_numpy(array: Any) -> Tensor:
    # Contiguous and in the machine's own byte order, the only one that torch takes.
    ordered = _numpy().array(array, dtype=array.dtype.newbyteorder("="), order="C")
    tensor: Tensor = torch.from_numpy(ordered)
    return tensor


def _read_npy(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file:
        return {"input": _from_numpy(_numpy().lib.format.read_array(file, allow_pickle=False))}


def _read_npz(path: Path) -> dict[str, Tensor]:
    # Opened here: numpy leaves a file that is no archive open.
    with path.open("rb") as file, _numpy().load(file, allow_pickle=False) as archive:
        return {name: _from_numpy(archive[name]) for name in archive.files}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with path.open("rb"):  # a missing file is reported the same for each format
        return load_file(path)


def _read_csv(path: Path) -> dict[str, Tensor]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [(number, row) for number, row in enumerate(csv.reader(file), 1) if row]
    header = rows.pop(0)[1] if rows and not all(map(_is_number, rows[0][1])) else []
    width = len(header or (rows[0][1] if rows else []))
    for number, row in rows:
        if len(row) != width or not all(map(_is_number, row)):
            raise ValueError(f"line {number} is not {width} numbers with commas between")
    names = [name.strip() for name in header]
    target = names.index("target") if "target" in names else width
    if names == ["target"]:
        raise ValueError("there is no column of inputs")
    cells = [row for _, row in rows]
    inputs = [[float(cell) for column, cell in enumerate(row) if column != target] for row in cells]
    tensors = {"input": torch.tensor(inputs, dtype=torch.float64)}
    if target < width:
        tensors["target"] = _column([row[target] for row in cells])
    return tensors


def _column(cells: list[str]) -> Tensor:
    try:
        return torch.tensor([int(cell) for cell in cells])
    except ValueError:
        return torch.tensor([float(cell) for cell in cells], dtype=torch.float64)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _to_numpy(tensor: Tensor) -> Any:
    try:
        return tensor.numpy()
    except TypeError:  # numpy has no bfloat16 nor float8
        return tensor.float().numpy()


def _write_npy(file: BinaryIO, tensors: Mapping[str, Tensor]) -> None:
    _numpy().save(file, _to_numpy(next(iter(tensors.values()))))


def _write_npz(file: BinaryIO, tensors: Mapping[str, Tensor]) -> None:
    _numpy().savez(file, **{name: _to_numpy(tensor) for name, tensor in tensors.items()})


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
    text.detach()  # which leaves the file open


_READERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".safetensors": _read_safetensors,
}
_WRITERS: dict[str, Callable[[BinaryIO, Mapping[str, Tensor]], None]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".csv": _write_csv,
    ".safetensors": _write_safetensors,
}
