"""Batches: any nesting of tuples, namedtuples, lists and dicts around tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter, itemgetter, methodcaller
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from argus_core.errors import ArgusError

__all__ = [
    "batch_size",
    "deep_cat",
    "deep_chunk",
    "deep_detach",
    "deep_map",
    "deep_split",
    "deep_to",
    "is_flat",
    "tensor_size",
    "tensor_sizes",
]

# The usual batch is a tuple or list of tensors. What looks at it in every update does so by functions that
# run over it in C: between two kernels of torch, bytecode is what costs.
_PLAIN = {tuple, list}
_TENSORS = {Tensor}
_first, _shape = itemgetter(0), attrgetter("shape")


def deep_to(value: Any, *args: Any, **kwargs: Any) -> Any:
    """Return ``value`` with ``.to(*args, **kwargs)`` applied to everything in it that has ``to``.

    Tuples, namedtuples, lists and dicts keep their type; other values come back as they are.

    >>> deep_to({"x": (torch.ones(2), "name")}, torch.float64)
    {'x': (tensor([1., 1.], dtype=torch.float64), 'name')}
    """
    if isinstance(value, Tensor):
        return value.to(*args, **kwargs)
    if type(value) in _PLAIN:
        return type(value)([deep_to(item, *args, **kwargs) for item in value])
    if _has(value, "to"):  # packed sequences, graphs, token encodings
        return value.to(*args, **kwargs)
    return _rebuild(value, lambda item: deep_to(item, *args, **kwargs))


def deep_detach(value: Any) -> Any:
    """Return ``value`` with every tensor cut off from the graph; containers keep their type."""
    if isinstance(value, Tensor):
        return value.detach() if value.requires_grad else value
    if _has(value, "detach"):
        return value.detach()
    return _rebuild(value, deep_detach)


def deep_map(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return ``value`` with ``change`` applied to every tensor; containers keep their type."""
    if isinstance(value, Tensor):
        return change(value)
    if type(value) in _PLAIN:
        return type(value)(
            [change(item) if isinstance(item, Tensor) else deep_map(item, change) for item in value]
        )
    return _rebuild(value, lambda item: deep_map(item, change))


def deep_chunk(value: Any, chunks: int, dim: int = 0) -> list[Any]:
    """Return ``value`` in at most ``chunks`` nearly equal parts along ``dim``, as `torch.chunk` cuts.

    Raises:
        ArgusError: ``chunks`` is below 1, or tensors in ``value`` differ in size along ``dim``.
    """
    if chunks < 1:
        raise ArgusError(f"cannot cut a batch into {chunks} chunks; give at least 1")
    parts = _cut_tensors(value, methodcaller("unsafe_chunk", chunks)) if dim == 0 else None
    if parts is not None:
        return parts
    samples = batch_size(value, dim)
    return _slices(value, -(-samples // chunks) or 1, samples, dim)


def deep_split(value: Any, size: int, dim: int = 0) -> list[Any]:
    """Return ``value`` in parts of ``size`` samples along ``dim``; the last may be smaller.

    Tensors and lists of one entry per sample are cut; whatever else there is goes into every part. An
    empty batch is one part.

    Raises:
        ArgusError: tensors in ``value`` differ in size along ``dim``.
    """
    parts = _cut_tensors(value, methodcaller("unsafe_split", size)) if dim == 0 else None
    return _slices(value, size, batch_size(value, dim), dim) if parts is None else parts


def batch_size(value: Any, dim: int = 0) -> int:
    """Return the number of samples: the size along ``dim`` of the first tensor in ``value``, or 1.

    0-d tensors do not count. A packed sequence has as many samples as its first time step.
    """
    size = tensor_size(value, dim)
    return 1 if size is None else size


def tensor_size(value: Any, dim: int = 0) -> int | None:
    """Return the number of samples as `batch_size` does, or ``None`` if no tensor in ``value`` tells it."""
    if type(value) in _PLAIN and value:
        first = value[0]
        if type(first) is Tensor and first.ndim:
            return first.shape[dim]
    tensor = _first_tensor(value, least_ndim=1)
    if tensor is None:
        return None
    return int(tensor.batch_sizes[0] if isinstance(tensor, PackedSequence) else tensor.shape[dim])


def tensor_sizes(values: Sequence[Any]) -> list[int | None]:
    """Return the `tensor_size` of each of several values."""
    if {*map(type, values)} <= _PLAIN and all(values):
        sizes = _lengths([*map(_first, values)])
        if sizes is not None:
            return sizes
    return [*map(tensor_size, values)]


def is_flat(value: Any) -> bool:
    """Return whether ``value`` is a tuple or a list of nothing but tensors."""
    return type(value) in _PLAIN and {*map(type, value)} == _TENSORS


def _lengths(tensors: Sequence[Any]) -> list[int | None] | None:
    """Return the sizes along the first dimension, or ``None`` if something is no tensor or has none."""
    if {*map(type, tensors)} != _TENSORS:
        return None
    try:
        return [*map(_first, map(_shape, tensors))]
    except IndexError:
        return None


def deep_cat(values: Sequence[Any]) -> Any:
    """Return the parts of one batch put together again along their first dimension.

    0-d tensors are stacked. Lists of one entry per sample (labels, texts, dicts of boxes) follow each
    other. What every part has the very same, such as ``None``, stays one. Tensors whose other dimensions
    differ, and packed sequences, cannot be put together: then the list of parts comes back.
    """
    first = values[0]
    if len(values) == 1:
        return first
    if isinstance(first, Tensor):
        return _cat_tensors(values)
    if isinstance(first, PackedSequence):
        return list(values)
    if _is_namedtuple(first):
        return type(first)(*map(deep_cat, zip(*values, strict=True)))
    if isinstance(first, Mapping):
        return _like(first, {key: deep_cat([part[key] for part in values]) for key in first})
    if isinstance(first, tuple | list):
        if _has_entry_per_sample(values):
            return type(first)(entry for part in values for entry in part)
        return type(first)(map(deep_cat, zip(*values, strict=True)))
    return first if all(part is first for part in values) else list(values)


def _has_entry_per_sample(parts: Sequence[Any]) -> bool:
    """Return whether these lists or tuples have one entry per sample, rather than one tensor per output."""
    first = parts[0]
    dicts = isinstance(first, list) and all(isinstance(entry, Mapping) for entry in first)
    return dicts or _first_tensor(first) is None or len(set(map(len, parts))) > 1


def _cat_tensors(tensors: Sequence[Tensor]) -> Any:
    if tensors[0].ndim == 0:
        return torch.stack(tuple(tensors))
    if len({tensor.shape[1:] for tensor in tensors}) > 1:
        return list(tensors)
    return torch.cat(tuple(tensors))


def _cut_tensors(value: Any, cut: Callable[[Tensor], Any]) -> list[Any] | None:
    """Return the parts of the usual batch, or ``None`` if it is another or its sizes are none or several.

    Args:
        value: the batch.
        cut: returns a tensor's parts. What `torch.split` returns may not be changed in place by what requires
            grad, so it is to be ``unsafe_split`` or ``unsafe_chunk``.
    """
    if type(value) not in _PLAIN:
        return None
    sizes = {*(_lengths(value) or ())}
    if len(sizes) != 1 or 0 in sizes:
        return None
    parts = zip(*map(cut, value), strict=True)
    return [*parts] if type(value) is tuple else [*map(list, parts)]


def _slices(value: Any, size: int, samples: int, dim: int) -> list[Any]:
    starts = range(0, max(samples, 1), size)
    return [_slice(value, start, min(start + size, samples), samples, dim) for start in starts]


def _rebuild(value: Any, change: Callable[[Any], Any]) -> Any:
    if _is_namedtuple(value):
        return type(value)(*map(change, value))
    if isinstance(value, tuple | list):
        return type(value)(map(change, value))
    if isinstance(value, dict):
        return _like(value, {key: change(item) for key, item in value.items()})
    return value


def _like(value: Mapping[Any, Any], changed: dict[Any, Any]) -> dict[Any, Any]:
    if type(value) is dict or not isinstance(value, dict):
        return changed
    copied = copy.copy(value)  # keeps the subclass and what it carries, a defaultdict's factory for one
    for key, item in changed.items():
        copied[key] = item
    return copied


def _slice(value: Any, start: int, stop: int, samples: int, dim: int) -> Any:
    if isinstance(value, Tensor):
        if value.ndim == 0:
            return value
        if value.shape[dim] != samples:
            raise ArgusError(
                f"cannot cut a batch whose tensors have {samples} and {value.shape[dim]} samples along "
                f"dimension {dim}; give them one size or choose a step strategy that splits this batch"
            )
        return value.narrow(dim, start, stop - start)
    if isinstance(value, PackedSequence):
        raise ArgusError(
            "cannot cut a packed sequence; pack it in forward_loss, after the batch has been cut"
        )
    if _is_namedtuple(value) or _first_tensor(value) is not None:
        return _rebuild(value, lambda item: _slice(item, start, stop, samples, dim))
    if isinstance(value, list | tuple) and len(value) == samples:
        return value[start:stop]  # one label, path or text for each sample
    return _rebuild(value, lambda item: _slice(item, start, stop, samples, dim))


def _first_tensor(value: Any, least_ndim: int = 0) -> Tensor | PackedSequence | None:
    if isinstance(value, Tensor):
        return value if value.ndim >= least_ndim else None
    if isinstance(value, PackedSequence):
        return value
    if not isinstance(value, (tuple, list)):
        value = value.values() if isinstance(value, Mapping) else ()
    for item in value:
        tensor = _first_tensor(item, least_ndim)
        if tensor is not None:
            return tensor
    return None


def _is_namedtuple(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def _has(value: Any, method: str) -> bool:
    return callable(getattr(value, method, None))
