"""Tensors compared to the last bit, nan too."""

from __future__ import annotations

import torch

from argus_core.storage.payload import pieces, view

__all__ = ["assert_same", "bits_of"]


def bits_of(tensor: torch.Tensor) -> bytes:
    return b"".join(bytes(view(piece)) for piece in pieces(tensor))


def assert_same(one: torch.Tensor, other: torch.Tensor) -> None:
    assert (one.dtype, one.shape) == (other.dtype, other.shape)
    assert bits_of(one) == bits_of(other)
