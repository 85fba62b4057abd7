"""The entry of a tensor in a checkpoint: its dtype, shape and offsets; the stored form of each dtype.

This module does not import torch.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from typing import Any

__all__ = ["MEMORY_FORMATS", "STORED_AS", "Entry", "is_plain", "is_shape", "name_problem"]

# Bytes of one number in each of safetensors' dtypes.
_SIZES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ", "F8_E8M0", "I8", "U8", "BOOL"), 1),
}

# The stored form of each torch dtype: safetensors' dtype, and the shape of one element in it.
# A dtype that safetensors lacks is stored as its bytes or numbers.
STORED_AS: dict[str, tuple[str, tuple[int, ...]]] = {
    "float64": ("F64", ()),
    "float32": ("F32", ()),
    "float16": ("F16", ()),
    "bfloat16": ("BF16", ()),
    "float8_e4m3fn": ("F8_E4M3", ()),
    "float8_e4m3fnuz": ("F8_E4M3FNUZ", ()),
    "float8_e5m2": ("F8_E5M2", ()),
    "float8_e5m2fnuz": ("F8_E5M2FNUZ", ()),
    "float8_e8m0fnu": ("F8_E8M0", ()),
    "int64": ("I64", ()),
    "int32": ("I32", ()),
    "int16": ("I16", ()),
    "int8": ("I8", ()),
    "uint64": ("U64", ()),
    "uint32": ("U32", ()),
    "uint16": ("U16", ()),
    "uint8": ("U8", ()),
    "bool": ("BOOL", ()),
    "complex64": ("C64", ()),
    "complex128": ("F64", (2,)),
    "complex32": ("F16", (2,)),
    "bits16": ("U16", ()),
    **dict.fromkeys(("bits8", "bits1x8", "bits2x4", "bits4x2", "float4_e2m1fn_x2"), ("U8", ())),
    **dict.fromkeys((f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)), ("U8", ())),
}

# The memory formats that are restored, and their number of dimensions.
MEMORY_FORMATS = {"channels_last": 4, "channels_last_3d": 5}

# A backslash, a drive, or a component that is empty or consists of dots.
_PATH = re.compile(r"\\|\A[A-Za-z]:|(?:\A|/)\.{0,2}(?:/|\Z)")

MAX_DIMENSIONS = 64
_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Entry:
    """The description of a stored tensor; offsets are in bytes from the start of the payload."""

    dtype: str
    shape: tuple[int, ...]
    memory_format: str | None = None
    crcs: tuple[int, ...] = ()
    start: int = 0

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape in the stored dtype."""
        return (*self.shape, *STORED_AS[self.dtype][1])

    @functools.cached_property
    def size(self) -> int:
        """The size in bytes."""
        return math.prod(self.stored_shape) * self.alignment

    @property
    def form(self) -> str:
        """The dtype and shape as text for messages."""
        return f"{self.dtype}{list(self.shape)}"

    @property
    def end(self) -> int:
        """The offset of the end."""
        return self.start + self.size

    @property
    def alignment(self) -> int:
        """The alignment of the start, in bytes."""
        return _SIZES[STORED_AS[self.dtype][0]]


def is_shape(shape: list[Any], dtype: str) -> bool:
    """Return whether a tensor of a dtype in `STORED_AS` can have this shape."""
    if len(shape) > MAX_DIMENSIONS or not all(type(length) is int and length >= 0 for length in shape):
        return False
    code, element = STORED_AS[dtype]
    # torch multiplies the other sizes even where one is 0.
    count: int = math.prod(length for length in (*shape, *element) if length)
    return count <= _LARGEST // _SIZES[code]


def is_plain(dtype: str) -> bool:
    """Return whether safetensors has this dtype of `STORED_AS` itself."""
    code, _ = STORED_AS[dtype]
    return dtype == next(name for name, (stored, _) in STORED_AS.items() if stored == code)


def name_problem(name: str) -> str | None:
    """Return the reason why a string cannot name a tensor, as the end of a sentence, or None."""
    if name == "__metadata__":
        return "is taken by the format"
    if not name.isprintable():
        return "holds characters that do not print"
    # Tools that unpack a file into a folder use names as paths.
    if _PATH.search(name):
        return "could be taken for a path out of a folder"
    return None
