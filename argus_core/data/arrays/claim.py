"""Claims: the shapes and dtypes that a file declares, checked against its size, then read in blocks."""

from __future__ import annotations

import csv
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from io import FileIO
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from argus_core.files.ordinary_files import MOST_COMPRESSED, allocated

__all__ = [
    "FAULTS",
    "Claim",
    "Source",
    "Unsuitable",
    "check_shape",
    "check_sizes",
    "fill",
    "parts_of",
    "read_claim",
    "shortened",
    "usual_dtype",
]

FAULTS = (
    EOFError, NotImplementedError, RecursionError, ValueError, csv.Error, struct.error, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
"""The errors that the readers of formats raise for damaged files."""

# Bytes that the arrays of even the smallest file may take.
_FREE = 64 * 2**20
_BLOCK = 2**20
_LONGEST = 2**63 - 1
_MOST_DIMENSIONS = 64
_SHOWN = 5


class Unsuitable(ValueError):
    """A file of arrays cannot be used; the message ends a sentence and includes the next action."""


class Source(Protocol):
    """A source of bytes."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read bytes into ``buffer`` and return their number."""


class Claim(NamedTuple):
    """The shape and dtype that a file declares for an array.

    Attributes:
        shape: of the array.
        itemsize: bytes of one number in the file.
        dtype: of the tensor to build.
        convert: converts a block of the file's bytes to a flat tensor.
        columns_first: whether the first index varies fastest (Fortran order).
    """

    shape: tuple[int, ...]
    itemsize: int
    dtype: torch.dtype
    convert: Callable[[memoryview], Tensor]
    columns_first: bool = False

    @property
    def size(self) -> int:
        """The size of the array in the file, in bytes."""
        return math.prod(self.shape) * self.itemsize


def parts_of(names: Iterable[str]) -> dict[str, str]:
    """Return the part of each array, ``"input"`` or ``"target"``, by the array's name in the file.

    Raises:
        Unsuitable: the names do not determine the parts.
    """
    known = list(names)
    if len(known) == 1:
        return {known[0]: "input"}
    if "input" not in known or not set(known) <= {"input", "target"}:
        more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
        shown = ", ".join(name[:40] for name in known[:_SHOWN]) or "nothing"
        raise Unsuitable(f"holds {shown}{more}; name its arrays input and target")
    return {name: name for name in known}


def check_shape(shape: object) -> tuple[int, ...]:
    """Return a shape after a check that a tensor can have it.

    Raises:
        ValueError: no tensor can have it.
    """
    if not isinstance(shape, list | tuple) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError("the shape of an array is impossible")
    if not all(type(length) is int and 0 <= length <= _LONGEST for length in shape):
        raise ValueError("the shape of an array is impossible")
    return tuple(shape)


def usual_dtype(part: str, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the tensor for a part, ``"input"`` or ``"target"``, with numbers of ``dtype``."""
    if dtype.is_floating_point:
        return torch.get_default_dtype()
    whole = part == "target" and dtype is not torch.bool and not dtype.is_complex
    return torch.int64 if whole else dtype


def check_sizes(claims: Iterable[Claim], file: FileIO) -> None:
    """Check that arrays take no more memory than the limit for a file of this size.

    Raises:
        Unsuitable: they take more.
    """
    size = sum(claim.size for claim in claims)
    held = allocated(file)
    if size > max(_FREE, MOST_COMPRESSED * held):
        raise Unsuitable(
            f"expands to {size:,} bytes, and the disk holds {held:,} of it, of which {MOST_COMPRESSED} times "
            "as much is the most; write it without compression, as numpy.savez does"
        )


def read_claim(source: Source, claim: Claim) -> Tensor:
    """Read the array of a claim; this takes the memory of the array and of one block.

    Raises:
        ValueError: the file ends before the array.
        Unsuitable: this machine lacks the memory.
    """
    count = math.prod(claim.shape)
    try:
        flat = torch.empty(count, dtype=claim.dtype)
    except RuntimeError as error:  # torch raises it where memory is full
        raise Unsuitable(
            f"takes {count * claim.dtype.itemsize:,} bytes of memory, and there are fewer; give fewer samples"
        ) from error
    per_block = _BLOCK // claim.itemsize
    block = memoryview(bytearray(min(count, per_block) * claim.itemsize))
    for start in range(0, count, per_block):
        part = block[: min(per_block, count - start) * claim.itemsize]
        fill(source, part)
        numbers = claim.convert(part)
        if (
            numbers.dtype is torch.uint64
            and claim.dtype is torch.int64
            and (numbers.view(torch.int64) < 0).any()
        ):
            raise ValueError("a target is beyond the integers of 64 bits with a sign")
        flat[start : start + per_block] = numbers
    if claim.columns_first:
        return flat.reshape(claim.shape[::-1]).permute(*reversed(range(len(claim.shape))))
    return flat.reshape(claim.shape)


def fill(source: Source, block: memoryview) -> None:
    """Read bytes until a block is full.

    Raises:
        ValueError: the file ends before.
    """
    done = 0
    while done < len(block):
        count = source.readinto(block[done:])
        if not count:
            raise ValueError("it is cut off in an array")
        done += count


def shortened(error: Exception) -> str:
    """Return an error about a file on one line, cut short: the file may determine its length."""
    return " ".join((str(error) or type(error).__name__)[:200].split())
