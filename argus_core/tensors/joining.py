"""The parts of one batch, joined along the dimension of their samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from argus_core.errors import ParamsError
from argus_core.tensors.batch import like
from argus_core.tensors.dimensions import ENTRIES, BatchDim, place_of
from argus_core.tensors.listing import first_tensor, is_namedtuple

__all__ = ["Layout", "deep_cat", "layout_of"]

_UNKNOWN = "unknown"  # where an entry of a declaration that is None belongs to every sample


class Layout(NamedTuple):
    """The places of the samples in the targets and predictions of parts whose dimension is declared.

    Attributes:
        target: the declaration for the targets.
        counts: the number of samples of each part, or ``None`` if it is unknown.
        dims: all declared dimensions, the targets' own first.
    """

    target: BatchDim
    counts: Sequence[int] | None
    dims: Sequence[int]

    def place_in(self, target: Any) -> int:
        """Return the dimension of the samples in the target of a single part, if it is a tensor."""
        return _place([target], self.target, self) if isinstance(target, Tensor) and target.ndim else 0

    def joined_targets(self, targets: Sequence[Any]) -> Any:
        """Return the targets of the parts joined."""
        return deep_cat(targets, self.target, self)

    def joined_predictions(self, predictions: Sequence[Any]) -> Any:
        """Return the predictions of the parts joined: where one is like the target, along its dimensions.

        Any other tensor has its samples in the first declared dimension that is as long as the parts; one
        without such a dimension, as of one vector per sequence, has them in the first.
        """
        return deep_cat(predictions, _of_prediction(self.target, predictions[0]), self)


def layout_of(
    batches: Sequence[Any], target: Any, dim: BatchDim, count: Callable[[Any], int]
) -> Layout | None:
    """Return the layout of parts, or ``None`` if no dimension is declared.

    Args:
        batches: the parts.
        target: of the first part: a value in it, or made of values in it or from them.
        dim: the declared dimension of the samples.
        count: returns the number of samples of a part.
    """
    if dim is None:
        return None
    try:
        counts: Sequence[int] | None = [*map(count, batches)]
    except ParamsError:
        counts = None
    own = _of_target(target, batches[0], dim)
    return Layout(own, counts, [*dict.fromkeys([*_numbers(own), *_numbers(dim)])])


def deep_cat(values: Sequence[Any], dim: BatchDim = _UNKNOWN, layout: Layout | None = None) -> Any:
    """Return the parts of one batch concatenated along the dimension of their samples.

    0-d tensors are stacked. Lists of one entry per sample (labels, texts, dicts of boxes) are concatenated.
    An object that all parts share, such as ``None``, is returned once. Tensors whose other dimensions
    differ, and packed sequences, cannot be concatenated: then the list of parts is returned.

    Args:
        values: the parts.
        dim: the declared dimension of the samples, if any.
        layout: where the samples are in tensors that have no other declaration.
    """
    first = values[0]
    if len(values) == 1 or (dim is None and all(part is first for part in values)):
        return first
    if isinstance(first, Tensor):
        return _cat_tensors(values, dim, layout)
    if isinstance(first, PackedSequence):
        return list(values)
    if isinstance(first, Mapping):
        dims = {key: _dim_of(dim, key, len(first)) for key in first}
        return like(
            first, {key: deep_cat([part[key] for part in values], dims[key], layout) for key in first}
        )
    if isinstance(first, tuple | list):
        named = is_namedtuple(first)
        if not named and (dim == ENTRIES or _has_entry_per_sample(values)):
            return type(first)(entry for part in values for entry in part)
        entries = [
            deep_cat(each, _dim_of(dim, place, len(first)), layout)
            for place, each in enumerate(zip(*values, strict=True))
        ]
        return type(first)(*entries) if named else type(first)(entries)
    return first if all(part is first for part in values) else list(values)


def _has_entry_per_sample(parts: Sequence[Any]) -> bool:
    """Return whether these lists or tuples have one entry per sample, rather than one tensor per output."""
    first = parts[0]
    dicts = all(isinstance(entry, Mapping) for entry in first)
    if isinstance(first, tuple):  # dicts of several outputs have different keys
        dicts = dicts and len({tuple(entry) for entry in first}) == 1
    return dicts or first_tensor(first) is None or len(set(map(len, parts))) > 1


def _cat_tensors(tensors: Sequence[Tensor], dim: BatchDim, layout: Layout | None) -> Any:
    if tensors[0].ndim == 0:
        return torch.stack(tuple(tensors))
    place = _place(tensors, dim, layout)
    if len({tensor.shape[:place] + tensor.shape[place + 1 :] for tensor in tensors}) > 1:
        return list(tensors)
    return torch.cat(tuple(tensors), dim=place)


def _place(tensors: Sequence[Tensor], dim: BatchDim, layout: Layout | None) -> int:
    own = [dim] if isinstance(dim, int) else []
    places = [place_of(each, tensors[0]) for each in [*own, *(layout.dims if layout else ())]]
    if layout is None or layout.counts is None:
        return places[0] if places else 0
    counts = [*layout.counts]
    return next((place for place in places if [each.size(place) for each in tensors] == counts), 0)


def _dim_of(dim: BatchDim, key: Any, entries: int) -> BatchDim:
    """Return the declaration for an entry of a value, which need not have the form of the declaration."""
    if isinstance(dim, Mapping):
        return dim.get(key, _UNKNOWN)
    if isinstance(dim, list):
        return dim[key] if isinstance(key, int) and len(dim) == entries else _UNKNOWN
    return dim if isinstance(dim, int | None) else _UNKNOWN


def _of_target(target: Any, batch: Any, dim: BatchDim) -> BatchDim:
    """Return the declaration for a target: a value in a batch, or made of such values."""
    found = _declared(target, batch, dim)
    if found != _UNKNOWN:
        return found
    if isinstance(target, Mapping):
        return {key: _of_target(each, batch, dim) for key, each in target.items()}
    if isinstance(target, tuple | list):
        return [_of_target(each, batch, dim) for each in target]
    return _UNKNOWN


def _declared(value: Any, batch: Any, dim: BatchDim) -> BatchDim:
    """Return the declaration for a value in a batch, which is found by its identity."""
    if value is batch:
        return dim
    if dim == ENTRIES or not isinstance(batch, Mapping | tuple | list):
        return _UNKNOWN
    items = batch.items() if isinstance(batch, Mapping) else enumerate(batch)
    found = (_declared(value, each, _dim_of(dim, key, len(batch))) for key, each in items)
    return next((each for each in found if each != _UNKNOWN), _UNKNOWN)


def _of_prediction(target: BatchDim, prediction: Any) -> BatchDim:
    """Return the declaration for a prediction whose entries are named, or ordered, as those of its target."""
    if isinstance(prediction, Mapping) and isinstance(target, Mapping):
        return {key: _of_prediction(target.get(key), each) for key, each in prediction.items()}
    if isinstance(prediction, tuple | list) and isinstance(target, list) and len(target) == len(prediction):
        return [*map(_of_prediction, target, prediction)]
    return target if isinstance(target, int) else _UNKNOWN


def _numbers(dim: BatchDim) -> Iterator[int]:
    """Yield the dimensions in a declaration."""
    if isinstance(dim, int):
        yield dim
    elif isinstance(dim, Mapping | list):
        for each in dim.values() if isinstance(dim, Mapping) else dim:
            yield from _numbers(each)
