"""The slice of a global batch that one process trains on, where it has the whole batch in memory."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from torch import Tensor, strided

from argus_core.data.slices import Share, slice_of
from argus_core.tensors.batch import deep_slice
from argus_core.tensors.dimensions import BatchDim
from argus_core.tensors.samples import lengths
from argus_core.tensors.wholes import Whole

__all__ = ["sliced"]

_PLAIN, _PAIR = (tuple, list), 2
_form, _STRIDED = attrgetter("layout", "is_nested"), {(strided, False)}


def sliced(batch: Any, samples: int, share: Share, dim: BatchDim) -> tuple[Any, bool, Whole]:
    """Return the slice of a process, whether it is a copied sample, and the facts about all slices.

    Args:
        batch: of all processes.
        samples: in it.
        share: of the process.
        dim: the declared dimension of the samples, if any.
    """
    start, stop, is_silent = slice_of(samples, share)
    if dim is None and _is_plain(batch, samples):
        own = type(batch)([tensor.narrow(0, start, stop - start) for tensor in batch])
    else:
        own = deep_slice(batch, start, stop, samples, dim)
    target = batch[1] if isinstance(batch, tuple | list) and len(batch) == _PAIR else None
    return own, is_silent, Whole(samples, target if type(target) is Tensor else None, True)


def _is_plain(batch: Any, samples: int) -> bool:
    """Return whether a batch is certainly some tensors with so many rows each, which can be cut at once."""
    return (
        type(batch) in _PLAIN
        and len(batch) != samples  # else each entry may be a sample
        and lengths(batch) == [samples] * len(batch)
        and {*map(_form, batch)} == _STRIDED
    )
