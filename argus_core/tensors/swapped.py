"""Other values in the place of tensors' own, for a while."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

__all__ = ["swapped"]


@contextmanager
def swapped(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[None]:
    """Let tensors hold the memory of values while the block runs; a value is copied if its dtype differs."""
    kept = [tensor.data for tensor in tensors]
    try:
        for tensor, value in zip(tensors, values, strict=True):
            tensor.data = value.to(tensor.dtype)
        yield
    finally:
        for tensor, data in zip(tensors, kept, strict=True):
            tensor.data = data
