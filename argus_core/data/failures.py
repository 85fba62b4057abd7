"""Failures while a batch is read: the sample that caused each, also if it was read in a worker.

What is certain becomes one sentence, an `ArgusError`. Other exceptions keep their type, and get the place.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any, NoReturn

from torch import Tensor
from torch._utils import ExceptionWrapper
from torch.utils.data import default_collate, get_worker_info

from argus_core.errors import ArgusError

__all__ = ["Failure", "collation_error", "failed_place", "raising", "sample_error", "samples_error"]

_SHOWN = 8  # samples of a batch that a message names
_IN_A_FORK = "Cannot re-initialize CUDA in forked subprocess"


class Failure:
    """An exception on its way from a worker to the run."""

    def __init__(self, error: Exception) -> None:
        info = get_worker_info()
        self._wrapper: Any = ExceptionWrapper(  # type: ignore[no-untyped-call]
            where=f"in DataLoader worker process {info.id if info else '?'}"
        )
        self._sentence = str(error) if isinstance(error, ArgusError) else None
        self._place = failed_place(error)

    def raise_again(self) -> NoReturn:
        try:
            self._wrapper.reraise()
        except Exception as error:
            if self._sentence is not None:
                raise ArgusError(self._sentence) from error
            _put_place(error, self._place)
            raise
        raise AssertionError


def raising(batches: Iterator[Any], skip: int = 0) -> Iterator[Any]:
    """Yield batches without the first ``skip``; raise the failures among them."""
    for number, batch in enumerate(batches):
        if type(batch) is Failure:
            if isinstance(batches, Generator):
                batches.close()  # which ends the workers, though the exception refers to them
            batch.raise_again()
        if number >= skip:
            yield batch


def failed_place(error: BaseException) -> str:
    """Return the sample or the collation that raised an exception, in words, or an empty string."""
    place: str = getattr(error, "_argus_place", "")
    return place


def _put_place(error: Exception, place: str) -> None:
    error._argus_place = place  # type: ignore[attr-defined]


def sample_error(error: Exception, dataset: Any, index: Any, sampler: str) -> Exception:
    """Return what to raise for an exception that reading one sample raised.

    Args:
        error: by the dataset.
        dataset: that was asked.
        index: of the sample.
        sampler: the class that chose it, for messages.
    """
    name = type(dataset).__name__
    length = _length(dataset)
    if isinstance(index, Integral) and length is not None and not -length <= int(index) < length:
        return ArgusError(
            f"{sampler} gives the index {index}, and the dataset {name} has {length} samples; give the "
            "sampler the dataset of its loader, or leave the index out"
        )
    if isinstance(error, StopIteration):
        return ArgusError(
            f"the dataset {name} raised StopIteration at index {index!r}, as next() does at the end of an "
            "iterator; catch it there, or raise another exception"
        )
    if _IN_A_FORK in str(error):
        return ArgusError(
            f"the dataset {name} uses CUDA at index {index!r}, which forked workers cannot; let it give CPU "
            "tensors, as a run moves each batch to its device, or choose num_workers=0"
        )
    _put_place(error, f"in dataset {name}, at index {index!r}")
    return error


def samples_error(error: Exception, dataset: Any, indices: Sequence[Any]) -> Exception:
    """Return what to raise for an exception of a dataset that reads all samples of a batch in one call."""
    name = type(dataset).__name__
    if isinstance(error, StopIteration):
        return ArgusError(
            f"the dataset {name} raised StopIteration at the indices {_listed(indices)}, as next() does at "
            "the end of an iterator; catch it there, or raise another exception"
        )
    _put_place(error, f"in dataset {name}, at the indices {_listed(indices)}")
    return error


def collation_error(
    error: Exception, collate: Callable[..., Any], samples: Any, indices: Sequence[Any] = ()
) -> Exception:
    """Return what to raise for an exception that collating samples raised.

    Args:
        error: by the collation.
        collate: raised it.
        samples: that it was given.
        indices: of them, if they have any.
    """
    if collate is default_collate and isinstance(samples, list):
        names = [str(index) for index in indices] or [
            f"number {number} of the batch" for number in range(len(samples))
        ]
        reason = _unlike(samples, names)
        if reason:
            return ArgusError(f"{reason}, or give the DataLoader a collate_fn that takes such samples")
    name = getattr(collate, "__name__", type(collate).__name__)
    if isinstance(error, StopIteration):
        return ArgusError(
            f"the collate_fn {name} raised StopIteration, as next() does at the end of an iterator; catch it "
            "there, or raise another exception"
        )
    place = (
        f"in collate_fn {name}, from {len(samples)} samples"
        if isinstance(samples, list)
        else f"in collate_fn {name}"
    )
    if len(indices):
        place += f" at the indices {_listed(indices)}"
    if isinstance(samples, list) and samples:
        place += f", the first of which is {_form(samples[0])}"
    _put_place(error, place)
    return error


def _length(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):
        return None


def _listed(indices: Sequence[Any]) -> str:
    shown = ", ".join(map(repr, indices[:_SHOWN]))
    return shown if len(indices) <= _SHOWN else f"{shown} and {len(indices) - _SHOWN} more"


def _unlike(samples: list[Any], names: list[str]) -> str:
    """Return which sample the default collation cannot take, and what to do, or an empty string."""
    firsts = _leaves(samples[0])
    for sample, name in zip(samples, names, strict=True):
        leaves = _leaves(sample)
        empty = next((path for path, leaf in leaves.items() if leaf is None), None)
        if empty is not None:
            what = f"holds None at {empty}" if empty else "is None"
            return f"sample {name} {what}; give it a value, leave the sample out of the dataset or sampler"
        for path in {**firsts, **leaves}:
            before, now = firsts.get(path, _MISSING), leaves.get(path, _MISSING)
            if before is None or _kind(before) == _kind(now):
                continue
            where = f" at {path}" if path else ""
            return (
                f"samples {names[0]} and {name} differ{where}: {_form(before)} and {_form(now)}; make them "
                "alike in the dataset"
            )
    return ""


class _Missing:
    pass


_MISSING = _Missing()


def _leaves(sample: Any, path: str = "") -> dict[str, Any]:
    """Return the values in a sample that are collated together with those of other samples, by their path."""
    if isinstance(sample, Mapping):
        parts = list(sample.items())
    elif isinstance(sample, tuple | list):
        parts = list(enumerate(sample))
    else:
        return {path: sample}
    found: dict[str, Any] = {}
    for key, value in parts:
        found |= _leaves(value, f"{path}[{key!r}]")
    return found


def _kind(leaf: Any) -> Any:
    return _Missing if leaf is _MISSING else tuple(getattr(leaf, "shape", ()))


def _form(value: Any) -> str:
    """Return the shapes and types in a sample."""
    if value is _MISSING:
        return "nothing"
    if isinstance(value, Tensor) or hasattr(value, "shape"):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(map(_form, value[:_SHOWN])) + ")"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_form(each)}" for key, each in list(value.items())[:_SHOWN]) + "}"
    return type(value).__name__
