"""The formats of a table of predictions.

.csv and .jsonl grow row by row. .npz and .parquet are made at the end; until then their rows wait in a file
of arrays, batch by batch.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy

from argus_core.data.readers.tables import parquet_of
from argus_core.errors import ArgusError
from argus_core.prediction.table import Columns

__all__ = ["APPENDED", "SUFFIXES", "check_format", "encoded", "write_packed"]

APPENDED = (".csv", ".jsonl")
SUFFIXES = (*APPENDED, ".npz", ".parquet")

_ERRORS = "backslashreplace"  # of file names that are not UTF-8


def check_format(path: Path) -> None:
    """Check that a table can be written to a path.

    Raises:
        ArgusError: its suffix is not known, or the package for it is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ArgusError(
            f"cannot write a table to {str(path)!r}; give a name that ends in one of {', '.join(SUFFIXES)}"
        )
    if suffix == ".parquet":
        parquet_of("a table in .parquet")


def encoded(suffix: str, columns: Columns, is_first: bool) -> bytes:
    """Return a batch of rows as the bytes to append.

    Args:
        suffix: of the table.
        columns: of the batch.
        is_first: whether it is the first of the file.
    """
    return _ENCODERS.get(suffix, _packed)(columns, is_first)


def write_packed(path: Path, suffix: str, rows: int, file: BinaryIO) -> None:
    """Write a table from the file of arrays at ``path``, with the memory of one batch.

    Args:
        path: what `encoded` gave, one after the other.
        suffix: ``".npz"`` or ``".parquet"``.
        rows: their number.
        file: to write to.
    """
    {".npz": _write_npz, ".parquet": _write_parquet}[suffix](lambda: _batches(path), rows, file)


def _csv(columns: Columns, is_first: bool) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if is_first:
        writer.writerow(columns)
    writer.writerows(zip(*map(_shortest, columns.values()), strict=True))
    return text.getvalue().encode("utf-8", _ERRORS)


def _json_lines(columns: Columns, is_first: bool) -> bytes:
    names, values = [*columns], [_finite(each) for each in columns.values()]
    lines = [
        json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False)
        for row in zip(*values, strict=True)
    ]
    return "".join(f"{line}\n" for line in lines).encode("utf-8", _ERRORS)


def _shortest(values: Any) -> Any:
    """Return values, floating-point numbers as the shortest text that reads back as the same number."""
    return values.astype("U").tolist() if isinstance(values, numpy.ndarray) else values


def _finite(values: Any) -> Any:
    """Return values for JSON, in which numbers that are not finite are null."""
    if not isinstance(values, numpy.ndarray) or values.dtype.kind != "f":
        return values.tolist() if isinstance(values, numpy.ndarray) else values
    finite = numpy.isfinite(values).tolist()
    return [
        float(text) if is_finite else None for text, is_finite in zip(_shortest(values), finite, strict=True)
    ]


def _packed(columns: Columns, is_first: bool) -> bytes:
    file = io.BytesIO()
    file.write(json.dumps([*columns]).encode() + b"\n")
    for values in columns.values():
        numpy.save(file, _array(values), allow_pickle=False)
    return file.getvalue()


def _array(values: Any) -> Any:
    if isinstance(values, numpy.ndarray):
        return values
    if all(isinstance(each, int) for each in values):
        return numpy.array(values, dtype="int64")
    return numpy.array([str(each).encode("utf-8", _ERRORS).decode() for each in values], dtype="U")


def _batches(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as file:
        while line := file.readline():
            yield {name: numpy.load(file, allow_pickle=False) for name in json.loads(line)}


def _write_npz(batches: Callable[[], Iterator[dict[str, Any]]], rows: int, file: BinaryIO) -> None:
    dtypes = _dtypes(batches)
    shapes: dict[str, tuple[int, ...]] = {}
    for batch in batches():
        for name, array in batch.items():
            if shapes.setdefault(name, array.shape[1:]) != array.shape[1:]:
                raise ArgusError(
                    f"{name} has the shape {shapes[name]} for one sample and {array.shape[1:]} for "
                    "another, which no .npz file holds; choose a prediction_transform that makes one shape"
                )
    with zipfile.ZipFile(file, "w") as archive:  # of one date, so that the same rows make the same file
        for name in dtypes:
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                header = {"descr": dtypes[name].str, "fortran_order": False, "shape": (rows, *shapes[name])}
                numpy.lib.format.write_array_header_1_0(member, header)
                for batch in batches():
                    member.write(numpy.ascontiguousarray(batch[name].astype(dtypes[name])).tobytes())


def _dtypes(batches: Callable[[], Iterator[dict[str, Any]]]) -> dict[str, Any]:
    """Return for each column the dtype that holds it in all batches; names of rows may be numbers in some."""
    dtypes: dict[str, Any] = {}
    for batch in batches():
        for name, array in batch.items():
            dtypes[name] = numpy.promote_types(dtypes.get(name, array.dtype), array.dtype)
    return dtypes


def _write_parquet(batches: Callable[[], Iterator[dict[str, Any]]], rows: int, file: BinaryIO) -> None:
    parquet, pyarrow = parquet_of("a table in .parquet"), importlib.import_module("pyarrow")
    dtypes, writer = _dtypes(batches), None
    with ExitStack() as stack:
        for batch in batches():
            arrays = [
                pyarrow.array(array.tolist() if array.dtype.kind == "U" else array)
                for array in (array.astype(dtypes[name]) for name, array in batch.items())
            ]
            table = pyarrow.table(arrays, names=[*batch])
            if writer is None:
                writer = stack.enter_context(parquet.ParquetWriter(file, table.schema))
            writer.write_table(table)


_ENCODERS: dict[str, Callable[[Columns, bool], bytes]] = {".csv": _csv, ".jsonl": _json_lines}
