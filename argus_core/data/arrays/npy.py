"""Readers of numpy's files: .npy, one array, and .npz, an archive of arrays."""

from __future__ import annotations

import importlib
import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from typing import Any

import torch
from torch import Tensor

from argus_core.data.arrays.claim import (
    Claim,
    Source,
    check_shape,
    check_sizes,
    parts_of,
    read_claim,
    usual_dtype,
)
from argus_core.errors import ArgusError
from argus_core.files.archive import directory_size
from argus_core.storage.plain_data import NUMBERS

__all__ = ["numpy", "opened_npy", "opened_npz", "read_npy", "read_npz"]

_MOST_HEADER = 10_000  # numpy's own limit for untrusted files
_MOST_DIRECTORY = 2**20  # bytes, of some 10,000 members
_ENCRYPTED = 1
_NUMBERS = NUMBERS | {"complex64", "complex128"}


def numpy() -> Any:
    """Return the module numpy, an optional dependency.

    Raises:
        ArgusError: numpy is not installed.
    """
    try:
        return importlib.import_module("numpy")
    except ImportError as error:
        raise ArgusError("files in .npy and .npz need numpy: pip install numpy") from error


def read_npy(file: FileIO) -> dict[str, Tensor]:
    """Return the array in an .npy file as the input.

    Raises:
        ValueError: the file is damaged, or holds other values than numbers.
    """
    with opened_npy(file) as (claim, source):
        check_sizes([claim], file)
        return {"input": read_claim(source, claim)}


@contextmanager
def opened_npy(file: FileIO) -> Iterator[tuple[Claim, Source]]:
    """Yield the claim of the array in an .npy file, and a source at its beginning.

    Raises:
        ValueError: the file is damaged, or holds other values than numbers.
    """
    claim, source = _claim(file, "input")
    left = os.fstat(file.fileno()).st_size - source.start
    if claim.size > left:
        raise ValueError(f"its array takes {claim.size:,} bytes, and it has {left:,}")
    yield claim, source


def read_npz(file: FileIO) -> dict[str, Tensor]:
    """Return the arrays ``input`` and ``target`` of an .npz file, or its only array; others are not read.

    Raises:
        ValueError: the file is damaged, or holds other values than numbers.
    """
    with _archive(file) as (archive, members):
        parts = parts_of(members)
        claims = [_member_claim(archive, members[name], part) for name, part in parts.items()]
        check_sizes(claims, file)
        return {
            part: _member_array(archive, members[name], claim)
            for (name, part), claim in zip(parts.items(), claims, strict=True)
        }


@contextmanager
def opened_npz(file: FileIO) -> Iterator[tuple[Claim, Source]]:
    """Yield the claim of the array ``input`` of an .npz file, or of its only one, and a source of its bytes.

    Raises:
        ValueError: the file is damaged, or holds other values than numbers.
    """
    with _archive(file) as (archive, members):
        [name] = [name for name, part in parts_of(members).items() if part == "input"]
        _member_claim(archive, members[name], "input")
        with _opened(archive, members[name]) as stream:
            yield _claim(stream, "input")
            stream.read(1)  # reading the end compares the archive's checksum


@contextmanager
def _archive(file: FileIO) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """Yield an archive, and its members by the names of their arrays."""
    if directory_size(file) > _MOST_DIRECTORY:
        raise ValueError(f"its table of contents takes more than {_MOST_DIRECTORY:,} bytes")
    with zipfile.ZipFile(file) as archive:
        members = {_array_name(member): member for member in archive.infolist()}
        if len(members) < len(archive.infolist()):
            raise ValueError("it has two arrays of one name")
        yield archive, members


class _Rest:
    """The rest of a stream after a header, including bytes that were read with the header."""

    def __init__(self, stream: FileIO | zipfile.ZipExtFile, begun: io.BytesIO) -> None:
        self.stream = stream
        self.begun = begun
        self.start = begun.tell()  # of the array, in bytes

    def readinto(self, buffer: memoryview, /) -> int | None:
        return self.begun.readinto(buffer) or self.stream.readinto(buffer)


def _claim(stream: FileIO | zipfile.ZipExtFile, part: str) -> tuple[Claim, _Rest]:
    begun = io.BytesIO(stream.read(_MOST_HEADER) or b"")
    try:
        dtype, shape, columns_first = _header(begun)
    except ArgusError:
        raise
    except Exception as error:  # of any type: numpy passes the text to Python's parser
        raise ValueError(f"its header is not one of .npy: {error}") from error
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never read")
    if dtype.name not in _NUMBERS:
        raise ValueError(f"it holds {str(dtype)[:40]}, which are not numbers")
    native = dtype.newbyteorder("=")
    # torch would turn a byte other than 0 and 1 into an invalid boolean.
    stored = dtype if dtype.kind != "b" else numpy().dtype("uint8")
    final = usual_dtype(part, getattr(torch, dtype.name))

    def convert(block: memoryview) -> Tensor:
        array = numpy().frombuffer(block, stored)
        tensor: Tensor = torch.from_numpy(array if stored.isnative else array.astype(native))
        return tensor

    return Claim(check_shape(shape), dtype.itemsize, final, convert, columns_first), _Rest(stream, begun)


def _header(begun: io.BytesIO) -> tuple[Any, Any, bool]:
    """Return the dtype, the shape and whether the order is Fortran's."""
    npy = numpy().lib.format
    version = npy.read_magic(begun)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"it is of version {version}, which arrays of numbers never are")
    shape, columns_first, dtype = read(begun, max_header_size=_MOST_HEADER)
    return dtype, shape, columns_first


def _array_name(member: zipfile.ZipInfo) -> str:
    """Return the name of the array in a member of an archive."""
    name, suffix = os.path.splitext(member.filename)
    if suffix != ".npy":
        raise ValueError(f"it holds {member.filename[:80]!r}, which is not an array")
    if member.flag_bits & _ENCRYPTED:
        raise ValueError(f"{name[:80]!r} in it is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name[:80]!r} in it is compressed in a way that numpy never uses")
    return name


def _member_claim(archive: zipfile.ZipFile, member: zipfile.ZipInfo, part: str) -> Claim:
    with _opened(archive, member) as stream:
        claim, rest = _claim(stream, part)
    if rest.start + claim.size != member.file_size:
        raise ValueError(
            f"an array takes {rest.start + claim.size:,} bytes, and {member.filename[:80]!r} has "
            f"{member.file_size:,}"
        )
    return claim


def _opened(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> zipfile.ZipExtFile:
    stream = archive.open(member)
    assert isinstance(stream, zipfile.ZipExtFile)
    return stream


def _member_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, claim: Claim) -> Tensor:
    with _opened(archive, member) as stream:
        tensor = read_claim(_claim(stream, "input")[1], claim)
        stream.read(1)  # reading the end compares the archive's checksum
    return tensor
