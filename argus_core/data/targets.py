"""The class of each sample of a dataset, without reading the samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from argus_core.errors import ArgusError

__all__ = ["Classes", "classes_of"]

_NAMES = ("targets", "labels")


class Classes:
    """The classes of a dataset's samples.

    Attributes:
        names: of the classes, sorted.
        numbers: the place in ``names`` of each sample's class: (samples,), int64.
        counts: the number of samples of each class: (classes,), int64.
    """

    def __init__(self, targets: numpy.ndarray[Any, Any]) -> None:
        names, numbers, counts = numpy.unique(targets, return_inverse=True, return_counts=True)
        self.names: list[Any] = names.tolist()
        self.numbers = numbers.astype(numpy.int64)
        self.counts = counts.astype(numpy.int64)


def classes_of(dataset: Any, asking: str) -> Classes:
    """Return the classes of a dataset's samples, which its attribute ``targets`` or ``labels`` holds.

    Subsets, concatenations, and a `TensorDataset` whose last tensor holds the targets need no attribute.

    Args:
        dataset: has a length.
        asking: the subject of messages, such as ``"sampler 'class_balanced'"``.

    Raises:
        ArgusError: the dataset does not have one class for each sample.
    """
    parts = [_checked(part, targets, asking) for part, targets in _targets(dataset, asking)]
    return Classes(numpy.concatenate(parts))


def _targets(dataset: Any, asking: str) -> Iterator[tuple[Any, Any]]:
    """Yield the datasets that make up a dataset, and the targets of each."""
    own = next((getattr(dataset, name) for name in _NAMES if hasattr(dataset, name)), None)
    if own is not None:
        yield dataset, own
    elif isinstance(dataset, ConcatDataset):
        for part in dataset.datasets:
            yield from _targets(part, asking)
    elif isinstance(dataset, Subset):
        inner = [_checked(part, targets, asking) for part, targets in _targets(dataset.dataset, asking)]
        yield dataset, numpy.concatenate(inner)[numpy.asarray(dataset.indices, dtype=numpy.int64)]
    elif isinstance(dataset, TensorDataset) and len(dataset.tensors) > 1:
        yield dataset, dataset.tensors[-1]
    else:
        raise ArgusError(
            f"{asking} needs the class of each sample, and {type(dataset).__name__} has neither targets nor "
            "labels; define targets in it, a list or tensor with the class of each sample in order"
        )


def _checked(dataset: Any, targets: Any, asking: str) -> numpy.ndarray[Any, Any]:
    found = numpy.asarray(targets.cpu() if isinstance(targets, Tensor) else targets)
    if found.ndim == 1 and len(found) == len(dataset) and found.dtype.kind in "biuUS":
        return found
    shape = tuple(found.shape)
    raise ArgusError(
        f"{asking} needs the class of each sample, and the targets of {type(dataset).__name__} are of shape "
        f"{shape} and dtype {found.dtype}; define targets with {len(dataset)} integers or strings, one for "
        "each sample in order"
    )
