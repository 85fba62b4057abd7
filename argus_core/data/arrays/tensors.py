"""A reader of tensors in untrusted .safetensors files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
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
from argus_core.storage.entry import STORED_AS

__all__ = ["opened_safetensors", "read_safetensors"]

_MOST_HEADER = 2**20  # bytes; parsed, it takes a dozen times as much
_METADATA = "__metadata__"

# torch's dtype for each of safetensors'; the first of several with one stored form.
_DTYPES = {code: name for name, (code, element) in reversed(STORED_AS.items()) if not element}


def read_safetensors(file: FileIO) -> dict[str, Tensor]:
    """Return the tensors ``input`` and ``target``, or the only tensor.

    Raises:
        ValueError: the file is damaged.
    """
    claims, starts = _claims(file)
    check_sizes(claims.values(), file)
    tensors = {}
    for part, claim in claims.items():
        file.seek(starts[part])
        tensors[part] = read_claim(file, claim)
    return tensors


@contextmanager
def opened_safetensors(file: FileIO) -> Iterator[tuple[Claim, Source]]:
    """Yield the claim of the tensor ``input``, or of the only one, with the file at its beginning.

    Raises:
        ValueError: the file is damaged.
    """
    claims, starts = _claims(file)
    file.seek(starts["input"])
    yield claims["input"], file


def _claims(file: FileIO) -> tuple[dict[str, Claim], dict[str, int]]:
    """Return the claim and the place of each part."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8) or b"", "little")
    if not 2 <= length <= min(_MOST_HEADER, size - 8):
        raise ValueError(f"its header would take {length:,} bytes")
    header = json.loads(file.read(length) or b"", object_pairs_hook=_without_doubles)
    if not isinstance(header, dict):
        raise ValueError("its header is not a table")
    entries = {name: entry for name, entry in header.items() if name != _METADATA}
    parts = parts_of(entries)
    claims = {part: _claim(entries[name], part) for name, part in parts.items()}
    starts = {part: entries[name]["data_offsets"][0] for name, part in parts.items()}
    _check_places(claims, starts, size - 8 - length)
    return claims, {part: 8 + length + start for part, start in starts.items()}


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("its header has two entries of one name")
    return table


def _claim(entry: Any, part: str) -> Claim:
    match entry:
        case {"dtype": str(code), "shape": list(shape), "data_offsets": [int(start), int(end)]} if (
            code in _DTYPES
        ):
            pass
        case _:
            raise ValueError("its header does not say where an array is, and of what dtype and shape")
    dtype = getattr(torch, _DTYPES[code])
    claim = Claim(check_shape(shape), dtype.itemsize, usual_dtype(part, dtype), _conversion(dtype))
    if end - start != claim.size:
        raise ValueError(f"an array takes {claim.size:,} bytes, and its place has {end - start:,}")
    return claim


def _conversion(dtype: torch.dtype) -> Callable[[memoryview], Tensor]:
    # torch would turn a byte other than 0 and 1 into an invalid boolean.
    stored = torch.uint8 if dtype is torch.bool else dtype
    return lambda block: torch.frombuffer(block, dtype=stored)


def _check_places(claims: dict[str, Claim], starts: dict[str, int], payload: int) -> None:
    """Check that the arrays are contiguous and fill the file."""
    end = 0
    for part in sorted(claims, key=lambda part: (starts[part], claims[part].size)):
        if starts[part] != end:
            raise ValueError("its arrays do not follow each other")
        end += claims[part].size
    if end != payload:
        raise ValueError(f"its arrays take {end:,} bytes, and it has {payload:,}")
