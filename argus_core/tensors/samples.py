"""The number of samples in a batch, from the sizes of its tensors; an ambiguous batch is an error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter, methodcaller
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from argus_core.errors import ParamsError
from argus_core.tensors.dimensions import ENTRIES, BatchDim, dim_of, place_of
from argus_core.tensors.listing import (
    NDIM_OF_IMAGE,
    SCALARS,
    are_images_with_dicts,
    first_tensor,
    is_array,
    kind_of,
)

__all__ = [
    "UnknownSizeError",
    "batch_size",
    "is_itself_a_list",
    "is_list_of_samples",
    "lengths",
    "without_empty",
]

_PLAIN = {tuple, list}
_SHOWN = 4
_first, _first_size = itemgetter(0), methodcaller("size", 0)


class UnknownSizeError(ParamsError):
    """The number of samples in a batch cannot be determined from its contents."""


def batch_size(batch: Any, dim: BatchDim = None) -> int:
    """Return the number of samples in a batch.

    Its tensors have one size along the batch dimension; 0-d tensors do not count. A list or tuple within
    the batch may instead hold one entry for each sample, such as images of several sizes, or dicts of boxes;
    so does a batch that is a list of dicts. A packed sequence has as many samples as its first time step.

    Args:
        batch: any nesting of tuples, lists and mappings.
        dim: the declared dimension of the samples, if any; see `BatchDim`.

    Raises:
        UnknownSizeError: no tensor or list in the batch determines it.
        ParamsError: the sizes differ, or the batch is ambiguous.
    """
    if dim is None and type(batch) in _PLAIN:
        sizes = lengths(batch)
        if sizes and sizes.count(sizes[0]) == len(sizes):
            return sizes[0]
    if dim == ENTRIES and isinstance(batch, tuple):
        raise ParamsError(
            f"batch_dim is 'entries' and a batch is {_described(batch)}; the entries of a tuple are inputs, "
            "targets and so on: declare one for each, such as ['entries', 'entries']"
        )
    hints: set[int] = set()
    sizes_read = _read(batch, hints, is_top=True) if dim is None else _common(_along(batch, dim))
    if sizes_read is None:
        if len(hints) == 1:
            return hints.pop()
        if isinstance(batch, (Tensor, *SCALARS)):  # a seed of data that forward_loss generates
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
    """Return the sizes along the first dimension, or ``None`` if a value is 0-d or not a tensor."""
    if {*map(type, tensors)} != {Tensor}:
        return None
    try:
        return [*map(_first_size, tensors)]
    except IndexError:
        return None


def without_empty(batches: Sequence[Any]) -> Sequence[Any]:
    """Return the batches whose first tensor has samples; if there is none, the first batch."""
    if {*map(type, batches)} <= _PLAIN and all(batches):
        firsts = [*map(_first, batches)]
        if {*map(type, firsts)} == {Tensor} and 0 not in map(Tensor.numel, firsts):
            return batches
    return [each for each in batches if not _is_empty(each)] or batches[:1]


def is_itself_a_list(batch: Any, samples: int) -> bool:
    """Return whether a batch of so many samples is certainly a list of samples."""
    return isinstance(batch, list) and len(batch) == samples > 0 and kind_of(batch, is_top=True) == "samples"


def is_list_of_samples(value: Any, samples: int, batch: Any) -> bool:
    """Return whether a list or tuple holds one entry for each of ``samples`` samples.

    Args:
        value: a batch or a value in it.
        samples: of the batch.
        batch: the whole batch, whose entries mostly are inputs and targets. Where one of these is a list of
            dicts, a list of images also has one entry for each sample.

    Raises:
        ParamsError: its tensors may equally be several inputs of so many samples.
    """
    if len(value) != samples or samples == 0:
        return False
    kind = kind_of(value, is_top=False)
    if kind != "either" or samples == 1:
        return kind in ("samples", "plain")
    if samples not in (_common(_read(each, set()) for each in value) or ()):
        return True
    if value is batch and kind_of(value, is_top=True) == "structure":
        return False
    if isinstance(value[0], Tensor) and value[0].ndim != NDIM_OF_IMAGE:
        return False
    if isinstance(value[0], Tensor) and _has_list_of_samples(batch, samples):
        return True
    raise ParamsError(
        f"a {type(value).__name__} of {samples} entries in a batch of {samples} samples may hold a sample in "
        "each entry or all samples in each; stack samples that can be stacked, or declare in the model, for "
        "each entry of the batch, batch_dim = ['entries', 'entries'] where each entry is a sample, or "
        "batch_dim = 0 where each tensor holds all samples"
    )


def _has_list_of_samples(batch: Any, samples: int) -> bool:
    entries = batch.values() if isinstance(batch, Mapping) else batch
    lists = (each for each in entries if isinstance(each, list | tuple) and len(each) == samples)
    return any(kind_of(each, is_top=False) == "samples" for each in lists)


def _is_empty(batch: Any) -> bool:
    tensor = first_tensor(batch)
    return isinstance(tensor, Tensor) and tensor.ndim > 0 and not tensor.numel()


def _read(value: Any, hints: set[int], is_top: bool = False) -> set[int] | None:
    """Return the possible numbers of samples of a value; ``None`` if they cannot be determined.

    Args:
        value: a batch or a value in it.
        hints: receives the lengths of lists without tensors, and of arrays, which may not hold samples.
        is_top: whether the value is the batch itself.
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
    kind = kind_of(value, is_top)
    if kind == "samples":
        return {len(value)}
    if kind == "plain":
        hints.add(len(value))
        return None
    common = _common(_read(each, hints if kind == "structure" else set()) for each in value)
    if kind == "structure":
        return common | {len(value)} if common and is_top and are_images_with_dicts(value) else common
    return (common or set()) | {len(value)}


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
            f"tensor holds all samples, 'entries' where the batch or an entry is a list of samples, else "
            f"{declare}"
        )
    along = _along(batch, 0) if dim is None else _along(batch, dim)
    found = " and ".join(
        map(str, list(dict.fromkeys(size for each in along for size in each or ()))[:_SHOWN])
    )
    where = "dimension 0" if dim is None else f"batch_dim={dim!r}"
    return ParamsError(
        f"cannot tell how many samples a batch has whose tensors have {found} samples along {where}; give "
        f"them one size, or declare in the model where they are: batch_dim = 1, or one for each entry, such "
        f"as [1, 0], 'entries' for a list of samples, or {declare}"
    )


def _described(value: Any) -> str:
    """Return a short description of a batch's structure."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} of {', '.join(map(str, [*value][:_SHOWN])) or 'nothing'}"
    if isinstance(value, list | tuple):
        inner = dict.fromkeys(_described(each).split(" of ")[0].removeprefix("a ") for each in value)
        return f"a {type(value).__name__} of {len(value)} ({', '.join([*inner][:_SHOWN])})"
    return f"a {type(value).__name__}"
