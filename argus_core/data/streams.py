"""Iterable datasets in a DataLoader: their random numbers, and workers that all give the same samples.

A stream's random numbers are a function of (seed, phase, epoch, worker). Workers share the samples only if
the dataset asks `torch.utils.data.get_worker_info` which of them it is in, or by other means of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torch.utils.data._utils import worker

from argus_core.data.failures import Failure, collation_error
from argus_core.data.holdings import Holdings
from argus_core.data.lost_workers import end_workers
from argus_core.data.workers import begun, options_of_workers, shared_numbers
from argus_core.errors import ArgusWarning
from argus_core.tensors.generators import global_sources, source_of
from argus_core.tensors.rng import key_seed

__all__ = ["StreamLoader"]

_EPOCH, _ASKED = range(2)  # places in the numbers that workers share
_END = object()
_PLAIN = (str, bytes, int, float, complex)


class StreamLoader:
    """The batches of a DataLoader over an iterable dataset, with random numbers that depend on a seed.

    Args:
        loader: its dataset, workers and collation are used; it is not iterated itself.
        seed: of the random numbers.
        phase: ``"train"`` or ``"val"``; the random numbers differ.

    Attributes:
        uneven: by how many batches the length may be wrong, as each worker has a last one.
    """

    def __init__(self, loader: DataLoader[Any], seed: int, phase: str) -> None:
        self.dataset = loader.dataset
        self.phase = phase
        self.uneven = max(0, loader.num_workers - 1)
        self._own = loader
        self._shared: Any = shared_numbers(2) if loader.num_workers else [0, 0]
        self._stream = _Stream(loader.dataset, (seed, phase), self._shared)
        self._loader: DataLoader[Any] = DataLoader(
            self._stream,
            loader.batch_size,
            drop_last=loader.drop_last,
            collate_fn=_Collation(loader.collate_fn),
            pin_memory=loader.pin_memory,
            generator=torch.Generator().manual_seed(seed),  # else it would draw from torch's
            **options_of_workers(loader),
        )
        # A function that sets up a worker may give it a part of the data.
        self._is_judged = loader.num_workers < 2 or loader.worker_init_fn is not None

    def __len__(self) -> int:
        return len(self._own)

    def __iter__(self) -> Iterator[Any]:
        return self.epoch_batches(0, 0)

    def epoch_batches(self, epoch: int, skip: int) -> Iterator[Any]:
        """Return the batches of an epoch without the first ``skip``, which are read but not given."""
        self._shared[_EPOCH] = epoch
        batches = begun(self._loader)
        if not self._loader.num_workers:
            batches = _with_exchanged_generators(batches)
        if not self._is_judged:
            batches = self._judged(batches)
        return self._given(batches, skip)

    def end_workers(self) -> None:
        end_workers(self._loader)

    def fingerprint(self, epoch: int) -> str:
        """Return what the order of the batches depends on, besides the dataset."""
        return f"{max(1, self._loader.num_workers)} workers"

    def has_order(self, epoch: int, fingerprint: str) -> bool:
        """Return whether `fingerprint`, in another process, was of the same order."""
        return self.fingerprint(epoch) == fingerprint

    def changed_order(self) -> str:
        """Return in words why an order is not that of before."""
        return "the number of workers decides which samples are in a batch"

    def _given(self, batches: Iterator[Any], skip: int) -> Iterator[Any]:
        for number, batch in enumerate(batches):
            if type(batch) is Failure:
                batch.raise_again()
            if number >= skip:
                yield batch

    def _judged(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yield the batches; warn if the first ones show that each worker gives all samples."""
        workers = self._loader.num_workers
        first: list[Any] = []
        for batch in batches:
            if not self._is_judged:
                first.append(batch)
                self._judge(first, is_all=False)
                if self._is_judged:
                    first = []
            yield batch
        if not self._is_judged and len(first) >= workers:
            self._judge(first, is_all=True)

    def _judge(self, first: list[Any], is_all: bool) -> None:
        """Decide whether workers repeat each other, once the first batch of each is there.

        If one worker's own batches are equal too, the data are all alike, which shows nothing.
        """
        workers = self._loader.num_workers
        if len(first) < workers:
            return
        is_shared = bool(self._shared[_ASKED]) or not all(
            _is_equal(first[0], each) for each in first[1:workers]
        )
        if is_shared:
            self._is_judged = True
        elif is_all or len(first) > workers:
            self._is_judged = True
            if is_all or not _is_equal(first[0], first[workers]):
                self._warn()

    def _warn(self) -> None:
        workers = self._loader.num_workers
        name = type(self.dataset).__name__
        warnings.warn(
            f"each of the {workers} workers of the {self.phase} loader gives all samples of the iterable "
            f"dataset {name}, so each sample comes {workers} times in an epoch; let its "
            "__iter__ give each worker a part (torch.utils.data.get_worker_info() has id and num_workers), "
            "or choose num_workers=1",
            ArgusWarning,
            stacklevel=2,
        )


class _Stream(IterableDataset[Any]):
    """Takes the place of an iterable dataset, and seeds the generators as an epoch begins.

    Args:
        dataset: the user's.
        key: of the random numbers; epoch and worker are added.
        shared: by all workers, the number of the epoch and whether one has asked which it is.
    """

    def __init__(self, dataset: Any, key: tuple[int, str], shared: Any) -> None:
        self.dataset = dataset
        self._key = key
        self._shared = shared

    def __iter__(self) -> Iterator[Any]:
        key, info = (*self._key, self._shared[_EPOCH]), get_worker_info()
        if info is not None:
            _observe(info, self._shared)
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(self._shared[_EPOCH])
        for source in global_sources():
            source.seed(key_seed(*key, "worker", 0 if info is None else info.id))
        # The dataset's own generators are alike in all workers: they may shuffle what the workers share.
        for number, generator in enumerate(Holdings(self.dataset).generators):
            source_of(generator, number).seed(key_seed(*key))
        yield from self.dataset


def _observe(info: Any, shared: Any) -> None:
    """Let a worker's information note in shared memory that the dataset has asked for it."""
    if not isinstance(info, _ObservedInfo):
        worker._worker_info = _ObservedInfo(info, shared)  # type: ignore[assignment]


class _ObservedInfo:
    """Takes the place of torch's `WorkerInfo`."""

    def __init__(self, info: Any, shared: Any) -> None:
        self._info = info
        self._shared = shared

    def __getattr__(self, name: str) -> Any:
        if name in ("id", "num_workers", "seed"):
            self._shared[_ASKED] = 1
        return getattr(self._info, name)

    def __repr__(self) -> str:
        return repr(self._info)


class _Collation:
    """A collation whose failures name the samples."""

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self.collate = collate

    def __call__(self, samples: Any) -> Any:
        try:
            return self.collate(samples)
        except Exception as error:
            told = collation_error(error, self.collate, samples)
            if get_worker_info() is not None:
                return Failure(told)
            if told is error:
                raise
            raise told from error


def _with_exchanged_generators(batches: Iterator[Any]) -> Iterator[Any]:
    """Yield batches that draw from the same generators as the run, without moving the run's numbers."""
    sources = global_sources()
    states: list[Any] = []
    batch = None
    while batch is not _END:
        for source in sources:
            source.keep()
        try:
            for source, state in zip(sources, states, strict=False):
                source.put(state)
            batch = next(batches, _END)
            states = [source.get() for source in sources]
        finally:
            for source in sources:
                source.restore()
        if batch is not _END:
            yield batch


def _is_equal(one: Any, other: Any) -> bool:
    """Return whether two batches hold the same numbers."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return (
            one.shape == other.shape
            and one.dtype == other.dtype
            and bool(((one == other) | (one != one)).all())
        )
    if isinstance(one, numpy.ndarray):
        is_alike: bool = one.shape == other.shape and one.dtype == other.dtype
        return is_alike and one.tobytes() == other.tobytes()
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_is_equal(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_is_equal, one, other))
    return one is other or bool(isinstance(one, _PLAIN) and one == other)
