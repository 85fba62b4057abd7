"""Tensors and arrays in memory, read a batch at a time by one index instead of sample by sample.

The batches are those of torch's default collation to the last bit, strides included. That holds for exactly
the types here: a subclass may give other samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset, TensorDataset, default_collate
from torch.utils.data._utils.collate import collate_tensor_fn, default_collate_fn_map

from argus_core.data.reading import BatchReader, Chosen

__all__ = ["MemoryReader", "is_in_memory"]

_DTYPES = frozenset(
    numpy.dtype(name)
    for name in (
        "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float16", "float32", "float64", "complex64", "complex128",
    )
)  # fmt: skip


def is_in_memory(loader: DataLoader[Any]) -> bool:
    """Return whether a loader's batches can be read by one index, without workers."""
    dataset = loader.dataset
    while type(dataset) is Subset:
        dataset = dataset.dataset
    is_usual = (
        loader.collate_fn is default_collate and default_collate_fn_map.get(Tensor) is collate_tensor_fn
    )
    # A function that sets up a worker may change its dataset.
    has_own_workers = loader.num_workers > 0 and loader.worker_init_fn is not None
    return is_usual and not has_own_workers and _rows_of(dataset) is not None


class MemoryReader:
    """Takes the place of a DataLoader's dataset, and gives whole batches.

    Args:
        dataset: tensors or arrays in memory, or subsets of them.
        usual: reads the batches whose indices are not plain ones, or with tensors that were exchanged.
    """

    def __init__(self, dataset: Any, usual: BatchReader) -> None:
        self.dataset = dataset
        self._usual = usual

    def __getitems__(self, chosen: Chosen) -> Any:
        dataset, indices = self.dataset, chosen.indices
        while type(dataset) is Subset:
            own = dataset.indices
            indices = [own[index] for index in _listed(indices)]
            dataset = dataset.dataset
        rows = _rows_of(dataset)
        index = _index(indices)
        if rows is None or index is None or not 0 <= int(index.min()) <= int(index.max()) < len(dataset):
            return self._usual.__getitems__(chosen._replace(indices=_listed(chosen.indices)))
        return rows(index)

    def target_of(self, indices: Any) -> Tensor | None:
        """Return the targets of samples if they are single numbers, the second of two tensors."""
        dataset: Any = self.dataset
        if type(dataset) is not TensorDataset or not isinstance(indices, Tensor):
            return None
        tensors = dataset.tensors
        if len(tensors) != 2 or tensors[1].ndim != 1 or not tensors[1].is_cpu or not _is_plain(tensors[1]):
            return None
        return tensors[1].index_select(0, indices)


def _listed(indices: Any) -> Sequence[Any]:
    return indices.tolist() if isinstance(indices, Tensor) else indices


def _index(indices: Any) -> Tensor | None:
    """Return indices as a tensor, if they are plain integers."""
    if isinstance(indices, Tensor):
        return indices if indices.dtype is torch.int64 and indices.ndim == 1 and len(indices) else None
    return torch.tensor(indices) if len(indices) and all(type(each) is int for each in indices) else None


def _rows_of(dataset: Any) -> Callable[[Tensor], Any] | None:
    """Return a function that takes an index and returns the collated rows of a dataset in memory."""
    if type(dataset) is TensorDataset:
        tensors = dataset.tensors
        if not tensors or not all(map(_is_plain, tensors)):
            return None
        return lambda index: [_selected(tensor, index) for tensor in tensors]
    if _is_plain(dataset):
        return lambda index: _selected(dataset, index)
    if type(dataset) is numpy.ndarray:
        # Rows that are single numbers are collated by their Python type.
        if dataset.ndim < 2 or dataset.dtype not in _DTYPES or not dataset.flags.c_contiguous:
            return None
        return lambda index: torch.as_tensor(dataset[index.numpy()])
    return None


def _is_plain(tensor: Any) -> bool:
    """Return whether stacked rows of a tensor are what an index gives."""
    return (
        type(tensor) is Tensor
        and tensor.layout is torch.strided
        and tensor.ndim > 0
        and tensor.is_contiguous()
        and not (tensor.requires_grad or tensor.is_conj() or tensor.is_neg() or tensor.is_quantized)
    )


def _selected(tensor: Tensor, index: Tensor) -> Tensor:
    return tensor.index_select(0, index if tensor.is_cpu else index.to(tensor.device))
