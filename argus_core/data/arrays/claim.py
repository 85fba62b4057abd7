"""What a file claims to hold: checked against the file, then read in blocks into one tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from io import FileIO
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from argus_core.files.ordinary_files import MOST_COMPRESSED, allocated

__all__ = [
    "Claim",
    "Source",
    "Unsuitable",
    "check_shape",
    "check_sizes",
    "parts_of",
    "read_claim",
    "usual_dtype",
]

# A file may expand to so many bytes however small it is.
_FREE = 64 * 2**20
_BLOCK = 2**20
_LONGEST = 2**63 - 1
_MOST_DIMENSIONS = 64
_SHOWN = 5


class Unsuitable(ValueError):
    """A file of arrays that cannot be used; the message is the end of a sentence with the next action."""


class Source(Protocol):
    """What bytes are read from."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Put bytes into ``buffer`` and return how many."""


class Claim(NamedTuple):
    """An array as a file claims it.

    Attributes:
        shape: of the array.
        itemsize: bytes of one number in the file.
        dtype: of the tensor to be made.
        convert: turns a block of the file's bytes into a flat tensor.
        columns_first: whether the first index is the one that runs fastest.
    """

    shape: tuple[int, ...]
    itemsize: int
    dtype: torch.dtype
    convert: Callable[[memoryview], Tensor]
    columns_first: bool = False

    @property
    def size(self) -> int:
        """How many bytes of the file it takes."""
        return math.prod(self.shape) * self.itemsize


def parts_of(names: Iterable[str]) -> dict[str, str]:
    """Return which array, by its name in the file, is the input and which the targets.

    Raises:
        Unsuitable: the names do not say so.
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
    """Return a shape that a tensor can have.

    Raises:
        ValueError: it is not one.
    """
    if not isinstance(shape, list | tuple) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError("the shape of an array is impossible")
    if not all(type(length) is int and 0 <= length <= _LONGEST for length in shape):
        raise ValueError("the shape of an array is impossible")
    return tuple(shape)


def usual_dtype(part: str, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that the numbers of a part, ``"input"`` or ``"target"``, are used in."""
    if dtype.is_floating_point:
        return torch.get_default_dtype()
    whole = part == "target" and dtype is not torch.bool and not dtype.is_complex
    return torch.int64 if whole else dtype


def check_sizes(claims: Iterable[Claim], file: FileIO) -> None:
    """Check that arrays take no more memory than a file of this size may ask for.

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
    """Return the array that a file claims; what is read beside it is one block.

    Raises:
        ValueError: the file ends before the array does.
        Unsuitable: this machine does not have the memory.
    """
    count = math.prod(claim.shape)
    try:
        flat = torch.empty(count, dtype=claim.dtype)
    except RuntimeError as error:  # torch's, where there is no memory
        raise Unsuitable(
            f"takes {count * claim.dtype.itemsize:,} bytes of memory, and there are fewer; give fewer samples"
        ) from error
    per_block = _BLOCK // claim.itemsize
    block = memoryview(bytearray(min(count, per_block) * claim.itemsize))
    for start in range(0, count, per_block):
        part = block[: min(per_block, count - start) * claim.itemsize]
        _fill(source, part)
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


def _fill(source: Source, block: memoryview) -> None:
    done = 0
    while done < len(block):
        count = source.readinto(block[done:])
        if not count:
            raise ValueError("it is cut off in an array")
        done += count
