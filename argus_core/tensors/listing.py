"""The kind of a list or tuple in a batch: inputs and targets, or one entry for each sample."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Number
from pathlib import PurePath
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

__all__ = [
    "NDIM_OF_IMAGE",
    "SCALARS",
    "are_images_with_dicts",
    "first_tensor",
    "is_array",
    "is_namedtuple",
    "kind_of",
    "named_tensors",
    "tensors_in",
]

NDIM_OF_IMAGE = 3
"""The dimensions of one image, which must never be split into its channels."""

SCALARS = (str, bytes, Number, PurePath, type(None))

_LISTS = (list, tuple, set, deque)


def kind_of(value: list[Any] | tuple[Any, ...], is_top: bool) -> str:
    """Return the kind of a list or tuple, from its entries.

    ``"structure"``: its entries are inputs, targets and so on. ``"samples"``: it has one entry for each
    sample. ``"either"``: its tensors allow both. ``"plain"``: it holds no tensors. A batch itself is a
    structure, except for lists of dicts or of tuples.
    """
    if is_namedtuple(value):
        return "structure"
    if not any(isinstance(each, Tensor | PackedSequence | Mapping | list | tuple) for each in value):
        is_row = is_top and (isinstance(value, tuple) or any(map(is_array, value)))
        return "structure" if is_row or any(map(is_array, value)) else "plain"
    if is_top and (type(value) is tuple or isinstance(value[0], Tensor)):
        return "structure"
    if all(isinstance(each, Tensor) for each in value):
        dims = {each.ndim for each in value}
        return "samples" if dims == {0} else "either" if len(dims) == 1 else "structure"
    if all(isinstance(each, Mapping) for each in value):
        if not is_top or any(_has_scalar(each.values()) for each in value):
            return "samples"
        return "either" if len({tuple(each) for each in value}) == 1 else "structure"
    if all(isinstance(each, list | tuple) and not is_namedtuple(each) for each in value):
        if is_top and (not all(type(each) is tuple for each in value) or first_tensor(value) is None):
            return "structure"
        is_ragged = len({*map(len, value)}) > 1
        if not is_ragged and _are_rows(value):
            return "structure"
        is_sure = is_ragged or any(map(_has_scalar, value)) or (is_top and _are_columns(value))
        return "samples" if is_sure else "either"
    return "structure"


def are_images_with_dicts(value: Any) -> bool:
    """Return whether each entry of a list or tuple may be one sample, an image and a dict of its boxes."""
    entries = value if isinstance(value, list | tuple) and not is_namedtuple(value) else ()
    pairs = [each for each in entries if isinstance(each, list | tuple) and not is_namedtuple(each)]
    return 0 < len(pairs) == len(entries) and all(
        {_form(entry) for entry in pair} == {(Tensor, NDIM_OF_IMAGE), (Mapping, 0)} for pair in pairs
    )


def first_tensor(value: Any, least_ndim: int = 0) -> Tensor | PackedSequence | None:
    """Return the first tensor in a value, or packed sequence."""
    if isinstance(value, Tensor):
        return value if value.ndim >= least_ndim else None
    if isinstance(value, PackedSequence):
        return value
    if not isinstance(value, (tuple, list)):
        value = value.values() if isinstance(value, Mapping) else ()
    for item in value:
        tensor = first_tensor(item, least_ndim)
        if tensor is not None:
            return tensor
    return None


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a value: nested at any depth in lists, tuples, sets and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, _LISTS):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, Mapping):
        yield from tensors_in([*value.values()])


def is_namedtuple(value: Any) -> bool:
    """Return whether a value is a namedtuple, which is a structure and not a list of samples."""
    return isinstance(value, tuple) and hasattr(value, "_fields")


def is_array(value: Any) -> bool:
    """Return whether a value is an array of another library, such as numpy's, that can be split into rows."""
    ndim = getattr(value, "ndim", None)
    return type(ndim) is int and ndim > 0 and hasattr(value, "__len__") and hasattr(value, "__getitem__")


def _are_rows(lists: Sequence[Sequence[Any]]) -> bool:
    """Return whether the kinds of entries differ between lists only: ``[(image, image), (dict, dict)]``."""
    forms = [{*map(_form, each)} for each in lists]
    return {*map(len, forms)} == {1} and len(set.union(*forms)) > 1


def _are_columns(tuples: Sequence[tuple[Any, ...]]) -> bool:
    """Return whether each tuple is one sample, with entries of different kinds such as an image and a dict.

    In ``[(inputs, lengths), (outputs, lengths)]``, where only dimensions differ, each tensor may hold all
    samples; a list of one tuple cannot be read this way.
    """
    shown = [[_form(entry)[: 2 if len(tuples) == 1 else 1] for entry in each] for each in tuples]
    return all(each == shown[0] for each in shown) and any(form != shown[0][0] for form in shown[0])


def _form(value: Any) -> tuple[Any, ...]:
    if isinstance(value, Tensor):
        return (Tensor, value.ndim) if value.ndim else (Number, 0)
    return next((kind for kind in (Mapping, Sequence, Number) if isinstance(value, kind)), type(value)), 0


def _has_scalar(values: Iterable[Any]) -> bool:
    """Return whether a value belongs to a single sample: default_collate turns numbers into tensors."""
    return any(isinstance(each, SCALARS) or (isinstance(each, Tensor) and not each.ndim) for each in values)


def named_tensors(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in a value, in dicts, lists and tuples too, with names such as ``target.boxes.0``."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from named_tensors(f"{name}.{key}", item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from named_tensors(f"{name}.{index}", item)
