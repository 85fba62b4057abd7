"""Functions on batches: tensors in any nesting of tuples, namedtuples, lists and dicts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping
from operator import attrgetter, methodcaller
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from argus_core.errors import ArgusError
from argus_core.tensors.dimensions import ENTRIES, BatchDim, dim_of, place_of
from argus_core.tensors.listing import first_tensor, is_array, is_namedtuple
from argus_core.tensors.samples import batch_size, is_itself_a_list, is_list_of_samples, lengths

__all__ = [
    "PLAIN",
    "TENSORS",
    "batch_size",
    "deep_chunk",
    "deep_detach",
    "deep_map",
    "deep_slice",
    "deep_split",
    "deep_to",
    "is_flat",
    "like",
]

# The usual batch is a tuple or list of tensors. Checks that run in every update loop over it in C: between
# two kernels of torch, bytecode takes the time.
PLAIN = {tuple, list}
TENSORS = {Tensor}
_form, _DENSE = attrgetter("layout", "is_nested"), {(torch.strided, False)}


def deep_to(value: Any, *args: Any, **kwargs: Any) -> Any:
    """Return ``value`` with ``.to(*args, **kwargs)`` applied to each object in it that has ``to``.

    Tuples, namedtuples, lists and dicts keep their type; other values are returned unchanged.

    >>> deep_to({"x": (torch.ones(2), "name")}, torch.float64)
    {'x': (tensor([1., 1.], dtype=torch.float64), 'name')}
    """
    if isinstance(value, Tensor):
        return value.to(*args, **kwargs)
    if type(value) in PLAIN:
        return type(value)([deep_to(item, *args, **kwargs) for item in value])
    if _has(value, "to"):  # packed sequences, graphs, token encodings
        return value.to(*args, **kwargs)
    return _rebuild(value, lambda item: deep_to(item, *args, **kwargs))


def deep_detach(value: Any) -> Any:
    """Return ``value`` with every tensor detached; containers keep their type."""
    if isinstance(value, Tensor):
        return value.detach() if value.requires_grad else value
    if _has(value, "detach"):
        return value.detach()
    return _rebuild(value, deep_detach)


def deep_map(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return ``value`` with ``change`` applied to every tensor; containers keep their type."""
    if isinstance(value, Tensor):
        return change(value)
    if type(value) in PLAIN:
        return type(value)(
            [change(item) if isinstance(item, Tensor) else deep_map(item, change) for item in value]
        )
    return _rebuild(value, lambda item: deep_map(item, change))


def deep_chunk(value: Any, chunks: int, dim: BatchDim = 0) -> list[Any]:
    """Return ``value`` in at most ``chunks`` nearly equal parts, as `torch.chunk` does.

    Args:
        value: a batch.
        chunks: at least 1.
        dim: the dimension of the samples: 0 for the first dimension of tensors or the entries of lists of
            samples; another dimension of all tensors, or one for each entry of the batch.

    Raises:
        ArgusError: ``chunks`` is below 1, or the number of samples in ``value`` is unknown.
    """
    if chunks < 1:
        raise ArgusError(f"cannot cut a batch into {chunks} chunks; give at least 1")
    dim = None if dim == 0 else dim
    parts = _cut_tensors(value, methodcaller("unsafe_chunk", chunks)) if dim is None else None
    if parts is not None:
        return parts
    samples = batch_size(value, dim)
    return _slices(value, -(-samples // chunks) or 1, samples, dim)


def deep_split(
    value: Any, size: int, dim: BatchDim = None, count: Callable[[Any], int] | None = None
) -> list[Any]:
    """Return ``value`` in parts of ``size`` samples; the last may be smaller.

    Tensors, arrays and lists of one entry per sample are split; any other value goes into every part. An
    empty batch is one part.

    Args:
        value: a batch.
        size: the number of samples in a part.
        dim: the declared dimension of the samples, if any.
        count: returns the number of samples in ``value``; called only where its tensors alone do not tell.

    Raises:
        ArgusError: the number of samples in ``value`` is unknown, or differs between its entries.
    """
    parts = _cut_tensors(value, methodcaller("unsafe_split", size)) if dim is None else None
    if parts is not None:
        return parts
    return _slices(value, size, batch_size(value, dim) if count is None else count(value), dim)


def deep_slice(value: Any, start: int, stop: int, samples: int, dim: BatchDim = None) -> Any:
    """Return the samples ``start`` to ``stop - 1`` of a batch of ``samples`` samples; see `deep_split`."""
    if dim is None and is_itself_a_list(value, samples):
        dim = ENTRIES
    return _slice(value, slice(start, stop), samples, dim, value)


def is_flat(value: Any) -> bool:
    """Return whether ``value`` is a tuple or a list that holds only tensors."""
    return type(value) in PLAIN and {*map(type, value)} == TENSORS


def like(value: Mapping[Any, Any], changed: dict[Any, Any]) -> Mapping[Any, Any]:
    """Return a mapping of the class of ``value`` with the entries ``changed``."""
    if type(value) is dict or not isinstance(value, MutableMapping):
        return changed
    copied = copy.copy(value)  # keeps the class and its attributes, such as a defaultdict's factory
    for key, item in changed.items():
        copied[key] = item
    return copied


def _cut_tensors(value: Any, cut: Callable[[Tensor], Any]) -> list[Any] | None:
    """Return the parts of a tuple or list of tensors of one size, or ``None`` for any other batch.

    Args:
        value: the batch.
        cut: returns a tensor's parts, by ``unsafe_split`` or ``unsafe_chunk``: autograd does not allow
            in-place changes of the parts that `torch.split` returns.
    """
    if type(value) not in PLAIN:
        return None
    sizes = {*(lengths(value) or ())}
    if len(sizes) != 1 or 0 in sizes or {*map(_form, value)} != _DENSE:
        return None
    parts = zip(*map(cut, value), strict=True)
    return [*parts] if type(value) is tuple else [*map(list, parts)]


def _slices(value: Any, size: int, samples: int, dim: BatchDim) -> list[Any]:
    starts = range(0, max(samples, 1), size)
    if len(starts) == 1:
        return [value]
    if dim is None and is_itself_a_list(value, samples):
        dim = ENTRIES
    parts = [slice(start, min(start + size, samples)) for start in starts]
    return [_slice(value, part, samples, dim, value) for part in parts]


def _rebuild(value: Any, change: Callable[[Any], Any]) -> Any:
    if is_namedtuple(value):
        return type(value)(*map(change, value))
    if isinstance(value, tuple | list):
        return type(value)(map(change, value))
    if isinstance(value, Mapping):
        return like(value, {key: change(item) for key, item in value.items()})
    return value


def _slice(
    value: Any,
    part: slice,
    samples: int,
    dim: BatchDim,
    batch: Any,
    declared: bool | None = None,
) -> Any:
    """Return the samples ``part`` of a value in a batch of ``samples`` samples."""
    declared = dim is not None if declared is None else declared
    if declared and dim is None:
        return value
    if isinstance(value, Tensor):
        return _slice_tensor(value, part, samples, dim)
    if isinstance(value, PackedSequence):
        raise ArgusError(
            "cannot cut a packed sequence; pack it in forward_loss, after the batch has been cut"
        )
    if isinstance(value, Mapping):
        of_each = {key: dim_of(dim, key, len(value)) for key in value}
        cut = {key: _slice(each, part, samples, of_each[key], batch, declared) for key, each in value.items()}
        return like(value, cut)
    if isinstance(value, tuple | list):
        if dim == ENTRIES or (not declared and is_list_of_samples(value, samples, batch)):
            return value[part]
        if declared and first_tensor(value) is None:
            return value[part] if len(value) == samples and not is_namedtuple(value) else value
        places = range(len(value))
        entries = [
            _slice(each, part, samples, dim_of(dim, place, len(value)), batch, declared)
            for place, each in zip(places, value, strict=True)
        ]
        return type(value)(*entries) if is_namedtuple(value) else type(value)(entries)
    if is_array(value):
        return value[part] if len(value) == samples else value
    if _has(value, "to"):
        raise ArgusError(
            f"cannot cut a {type(value).__name__}; make it in forward_loss, after the batch has been cut, or "
            "write a step strategy whose split_window cuts it"
        )
    return value


def _slice_tensor(value: Tensor, part: slice, samples: int, dim: BatchDim) -> Tensor:
    if value.ndim == 0:
        return value
    place = place_of(dim, value)
    size = value.size(place)
    if size != samples:
        raise ArgusError(
            f"cannot cut a batch whose tensors have {samples} and {size} samples along dimension {place}; "
            "give them one size, or declare in the model where the samples are: batch_dim = 1, or one for "
            "each entry (None for what belongs to every sample)"
        )
    if value.is_nested:
        return torch.nested.as_nested_tensor([*value.unbind()][part], layout=value.layout)
    if value.layout is not torch.strided:
        rows = torch.arange(part.start, part.stop, device=value.device)
        return value.to_sparse().index_select(place, rows).to_sparse(layout=value.layout)
    return value.narrow(place, part.start, part.stop - part.start)


def _has(value: Any, method: str) -> bool:
    return callable(getattr(value, method, None))
