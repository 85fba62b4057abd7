"""How many samples a batch holds: read off its tensors where they agree, and never guessed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Number
from operator import itemgetter, methodcaller
from pathlib import PurePath
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from argus_core.dimensions import ENTRIES, BatchDim, dim_of, place_of
from argus_core.errors import ParamsError

__all__ = [
    "UnknownSizeError",
    "batch_size",
    "first_tensor",
    "is_array",
    "is_list_of_samples",
    "is_namedtuple",
    "lengths",
    "without_empty",
]

_PLAIN = {tuple, list}
_SCALARS = (str, bytes, Number, PurePath, type(None))
_SHOWN = 4
_NDIM_OF_IMAGE = 3  # which must never be cut into its channels
_first, _first_size = itemgetter(0), methodcaller("size", 0)


class UnknownSizeError(ParamsError):
    """A batch holds nothing that tells how many samples it has."""


def batch_size(batch: Any, dim: BatchDim = None) -> int:
    """Return the number of samples that a batch holds.

    Its tensors have one size along the batch's dimension; 0-d tensors do not count. A list or tuple within
    the batch may instead hold one entry for each sample, such as images of several sizes, or dicts of boxes;
    a batch that is a list of dicts does too. A packed sequence has as many as its first time step.

    Args:
        batch: any nesting of tuples, lists and mappings.
        dim: where the samples are, if that is declared; see `BatchDim`.

    Raises:
        UnknownSizeError: nothing in the batch tells it.
        ParamsError: what is in the batch disagrees, or may be read in two ways.
    """
    if dim is None and type(batch) in _PLAIN:
        sizes = lengths(batch)
        if sizes and sizes.count(sizes[0]) == len(sizes):
            return sizes[0]
    hints: set[int] = set()
    sizes_read = _read(batch, hints, is_top=True) if dim is None else _common(_along(batch, dim))
    if sizes_read is None:
        if len(hints) == 1:
            return hints.pop()
        if isinstance(batch, (Tensor, *_SCALARS)):  # a seed for data that forward_loss makes
            return 1
        raise UnknownSizeError(
            f"a batch is {_described(batch)}, which does not tell how many samples it has; override "
            "batch_size(batch) in the model's class"
        )
    if len(sizes_read) != 1 and len(sizes_read & hints) == 1:
        sizes_read &= hints
    if len(sizes_read) != 1:
        raise _disagreement(batch, dim, sizes_read)
    return next(iter(sizes_read))


def lengths(tensors: Iterable[Any]) -> list[int] | None:
    """Return the sizes along the first dimension, or ``None`` if something is no tensor or has none."""
    if {*map(type, tensors)} != {Tensor}:
        return None
    try:
        return [*map(_first_size, tensors)]
    except IndexError:
        return None


def without_empty(batches: Sequence[Any]) -> Sequence[Any]:
    """Return the batches that have samples, by their first tensors; if none has, the first batch."""
    if {*map(type, batches)} <= _PLAIN and all(batches):
        firsts = [*map(_first, batches)]
        if {*map(type, firsts)} == {Tensor} and 0 not in map(Tensor.numel, firsts):
            return batches
    return [each for each in batches if not _is_empty(each)] or batches[:1]


def is_list_of_samples(value: Any, samples: int) -> bool:
    """Return whether a list or tuple within a batch of so many samples holds an entry for each.

    Raises:
        ParamsError: its tensors may as well be several inputs of so many samples.
    """
    if len(value) != samples or samples == 0:
        return False
    kind = _kind(value, is_top=False)
    if kind != "either" or samples == 1:
        return kind in ("samples", "plain")
    if samples not in (_common(_read(each, set()) for each in value) or ()):
        return True
    if isinstance(value[0], Tensor) and value[0].ndim != _NDIM_OF_IMAGE:
        return False
    raise ParamsError(
        f"a {type(value).__name__} of {samples} entries in a batch of {samples} samples may hold a sample in "
        "each entry or all samples in each; stack samples that can be stacked, or declare in the model, for "
        "each entry of the batch, batch_dim = ['entries', 'entries'] where each entry is a sample, or "
        "batch_dim = 0 where each tensor holds all samples"
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


def is_namedtuple(value: Any) -> bool:
    """Return whether a value is a tuple whose entries have names: a structure, not a list of samples."""
    return isinstance(value, tuple) and hasattr(value, "_fields")


def is_array(value: Any) -> bool:
    """Return whether a value is an array of another library, such as numpy's, that can be cut into rows."""
    ndim = getattr(value, "ndim", None)
    return type(ndim) is int and ndim > 0 and hasattr(value, "__len__") and hasattr(value, "__getitem__")


def _is_empty(batch: Any) -> bool:
    tensor = first_tensor(batch)
    return isinstance(tensor, Tensor) and tensor.ndim > 0 and not tensor.numel()


def _read(value: Any, hints: set[int], is_top: bool = False) -> set[int] | None:
    """Return the numbers of samples that a value may have; ``None`` if nothing in it tells.

    Args:
        value: a batch or something in it.
        hints: gets the lengths of lists without tensors, and of arrays, which need not be of samples.
        is_top: whether it is the batch itself.
    """
    if isinstance(value, Tensor):
        return {int(value.size(0))} if value.ndim else None
    if isinstance(value, PackedSequence):
        return {int(value.batch_sizes[0])}
    if isinstance(value, Mapping):
        return _common(_read(each, hints) for each in value.values())
    if not isinstance(value, list | tuple):
        if is_array(value):
            hints.add(len(value))
        return None
    kind = _kind(value, is_top)
    if kind == "samples":
        return {len(value)}
    if kind == "plain":
        hints.add(len(value))
        return None
    common = _common(_read(each, hints if kind == "structure" else set()) for each in value)
    return common if kind == "structure" else (common or set()) | {len(value)}


def _kind(value: list[Any] | tuple[Any, ...], is_top: bool) -> str:
    """Return what a list or tuple is by what it holds.

    ``"structure"``: its entries are inputs, targets and so on. ``"samples"``: it has an entry for each
    sample. ``"either"``: its tensors do not say. ``"plain"``: it holds no tensors. A batch itself is a
    structure, but for lists of dicts or of tuples.
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
        return "samples" if is_ragged or any(map(_has_scalar, value)) else "either"
    return "structure"


def _has_scalar(values: Iterable[Any]) -> bool:
    """Return whether something is of a single sample: default_collate makes tensors of numbers."""
    return any(isinstance(each, _SCALARS) or (isinstance(each, Tensor) and not each.ndim) for each in values)


def _common(readings: Iterable[set[int] | None]) -> set[int] | None:
    known = [each for each in readings if each is not None]
    return set.intersection(*known) if known else None


def _along(value: Any, dim: BatchDim) -> Iterator[set[int] | None]:
    """Yield the sizes of the tensors in a value along their declared dimensions."""
    if dim is None:
        return
    if isinstance(value, Tensor):
        if value.ndim:
            yield {int(value.size(place_of(dim, value)))}
    elif isinstance(value, PackedSequence):
        yield {int(value.batch_sizes[0])}
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _along(each, dim_of(dim, key, len(value)))
    elif dim == ENTRIES and isinstance(value, list | tuple):
        yield {len(value)}
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from _along(each, dim_of(dim, index, len(value)))


def _disagreement(batch: Any, dim: BatchDim, sizes: set[int]) -> ParamsError:
    declare = "override batch_size(batch) in its class"
    if sizes:
        found = " or ".join(map(str, sorted(sizes)))
        return ParamsError(
            f"a batch is {_described(batch)}, which may hold {found} samples, since a list in it may have an "
            f"entry for each sample or for each input; declare it in the model: batch_dim = 0 where each "
            f"tensor holds all samples, 'entries' for a list of samples in the batch, else {declare}"
        )
    along = _along(batch, 0) if dim is None else _along(batch, dim)
    found = " and ".join(
        map(str, list(dict.fromkeys(size for each in along for size in each or ()))[:_SHOWN])
    )
    where = "dimension 0" if dim is None else f"batch_dim={dim!r}"
    return ParamsError(
        f"cannot tell how many samples a batch has whose tensors have {found} samples along {where}; give "
        f"them one size, or declare in the model where they are: batch_dim = 1, or one for each entry, such "
        f"as [1, 0], or {declare}"
    )


def _described(value: Any) -> str:
    """Return the form of a batch in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} of {', '.join(map(str, [*value][:_SHOWN])) or 'nothing'}"
    if isinstance(value, list | tuple):
        inner = dict.fromkeys(_described(each).split(" of ")[0].removeprefix("a ") for each in value)
        return f"a {type(value).__name__} of {len(value)} ({', '.join([*inner][:_SHOWN])})"
    return f"a {type(value).__name__}"
