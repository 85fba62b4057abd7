"""Gradients of embeddings with ``sparse=True``, which hold a few rows and stand for zeros in all others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["Entries", "entries", "with_entries"]


@dataclass(frozen=True)
class Entries:
    """Stands in for a parameter where only its gradient is looked at.

    Attributes:
        grad: the entries that a sparse gradient holds, each index once; changing them changes the gradient.
    """

    grad: Tensor


def entries(gradient: Tensor) -> Tensor:
    """Return the entries of a gradient that may be other than zero."""
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def with_entries(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter | Entries]:
    """Return the parameters, with stand-ins for those whose gradient is sparse.

    What torch's functions for clipping do to the entries is done to the gradient: zeros stay zeros.
    """
    return [_with_entries(parameter) for parameter in parameters]


def _with_entries(parameter: nn.Parameter) -> nn.Parameter | Entries:
    gradient = parameter.grad
    if gradient is None or not gradient.is_sparse:
        return parameter
    parameter.grad = gradient = gradient.coalesce()  # the same row may come twice, and only the sum counts
    return Entries(gradient._values())
