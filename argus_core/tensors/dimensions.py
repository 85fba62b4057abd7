"""``batch_dim``: a model's declaration of the dimension of the samples in the tensors of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from argus_core.errors import ParamsError

__all__ = ["ENTRIES", "BatchDim", "check_batch_dim", "dim_of", "place_of"]

BatchDim = Any
"""The dimension of the samples: one for all tensors, or a list or dict like the batch, one for each entry.

As an entry, ``"entries"`` declares a list of samples, such as images of several sizes, and ``None`` an entry
that belongs to every sample. As the whole declaration, ``"entries"`` means that the batch is a list of
samples, and ``None`` that nothing is declared."""

ENTRIES = "entries"


def check_batch_dim(dim: Any, where: str = "batch_dim") -> BatchDim:
    """Return a declared `BatchDim` after a check of its form.

    Raises:
        ParamsError: it has another form.
    """
    if isinstance(dim, Mapping):
        return {key: check_batch_dim(each, f"{where}[{key!r}]") for key, each in dim.items()}
    if isinstance(dim, list | tuple):
        return [check_batch_dim(each, f"{where}[{index}]") for index, each in enumerate(dim)]
    if dim is not None and dim != ENTRIES and (type(dim) is not int or dim < 0):
        raise ParamsError(
            f"{where} is {dim!r}; it must be the dimension of the samples, an integer of at least 0, or one "
            "for each entry of the batch, such as [1, 0] or {'ids': 1, 'label': 0}; 'entries' stands for a "
            "list of samples, in an entry or as the whole batch"
        )
    return dim


def dim_of(dim: BatchDim, key: Any, entries: int) -> BatchDim:
    """Return the declaration for an entry of a batch: by key in a mapping, by position in a list.

    Raises:
        ParamsError: the form of the declaration differs from that of the batch.
    """
    if isinstance(dim, Mapping):
        if key not in dim:
            raise ParamsError(
                f"batch_dim is declared for {', '.join(map(repr, dim))}, and the batch has an entry {key!r}; "
                "declare it too (None if it belongs to every sample)"
            )
        return dim[key]
    if isinstance(dim, list):
        if len(dim) != entries:
            raise ParamsError(
                f"batch_dim is declared for {len(dim)} entries, and the batch has {entries}; declare one for "
                "each (None for what belongs to every sample)"
            )
        return dim[key] if isinstance(key, int) else dim[0]
    return dim


def place_of(dim: BatchDim, tensor: Tensor) -> int:
    """Return the dimension of a tensor that holds the samples."""
    if dim is None:
        return 0
    if not isinstance(dim, int):
        raise ParamsError(
            f"batch_dim declares {dim!r} for a tensor of shape {tuple(tensor.shape)}; declare one dimension"
        )
    return min(dim, tensor.ndim - 1)  # a tensor of one number per sample has one dimension
