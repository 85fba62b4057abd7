"""Sparse gradients, as embeddings with ``sparse=True`` have them: a few rows, all others being zero."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["Entries", "entries", "with_entries"]


@dataclass(frozen=True)
class Entries:
    """A stand-in for a parameter in functions that use only its gradient.

    Attributes:
        grad: the values of a coalesced sparse gradient; changing them changes the gradient.
    """

    grad: Tensor


def entries(gradient: Tensor) -> Tensor:
    """Return the entries of a gradient that may be non-zero."""
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def with_entries(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter | Entries]:
    """Return the parameters, with stand-ins for those whose gradient is sparse.

    torch's clipping functions then change the gradient itself; its zeros stay zeros.
    """
    return [_with_entries(parameter) for parameter in parameters]


def _with_entries(parameter: nn.Parameter) -> nn.Parameter | Entries:
    gradient = parameter.grad
    if gradient is None or not gradient.is_sparse:
        return parameter
    parameter.grad = gradient = gradient.coalesce()  # a row may occur twice; its gradient is the sum
    return Entries(gradient._values())
