"""Data loaders whose order and random numbers a run decides, so that it can be resumed at any batch."""

from __future__ import annotations

import copy
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeGuard, cast

import torch
from torch.utils.data import DataLoader, IterableDataset, IterDataPipe, default_collate

from argus_core.data.epoch_order import EpochOrder
from argus_core.data.failures import raising
from argus_core.data.lost_workers import end_workers
from argus_core.data.memory import MemoryReader, is_in_memory
from argus_core.data.reading import BatchReader, as_it_is
from argus_core.data.samplers import BatchesOfOne, knows_of_processes
from argus_core.data.slices import Share, Silent
from argus_core.data.streams import StreamLoader
from argus_core.data.workers import (
    begun,
    options_of_workers,
    shared_numbers,
    with_workers_that_leave_signals,
)
from argus_core.errors import ArgusWarning
from argus_core.tensors.wholes import Whole

__all__ = [
    "OrderedLoader",
    "Shortened",
    "can_skip",
    "changed_numbers",
    "draw_seed",
    "epoch_batches",
    "loader_length",
    "ordered",
    "with_workers",
]


class OrderedLoader:
    """The batches of a DataLoader in an order that depends on a seed and the epoch only.

    Args:
        loader: its dataset, sampler, workers and collation are used; it is not iterated itself.
        seed: of the order and of the samples' random numbers.
        phase: ``"train"`` or ``"val"``; the samples' random numbers differ.
        share: of this process in each batch, in a run of several; it reads no other samples.

    Attributes:
        is_sliced: whether its batches are the slices of this process.
        wholes: the facts about the global batches of those slices that it has given.
    """

    _memory: MemoryReader | None = None

    def __init__(self, loader: DataLoader[Any], seed: int, phase: str, share: Share | None = None) -> None:
        self.seed = seed
        self.dataset = loader.dataset
        batches: Any = loader.batch_sampler
        is_batched = batches is not None
        if not is_batched:
            batches = BatchesOfOne(loader.sampler)
        sampler = type(getattr(batches, "sampler", batches)).__name__
        reader: Any = BatchReader(loader.dataset, loader.collate_fn, seed, phase, sampler, is_batched)
        self.is_in_memory = is_in_memory(loader)
        if self.is_in_memory:
            reader = MemoryReader(loader.dataset, reader)
            self._memory = reader
        elif loader.num_workers:
            reader.positions = shared_numbers(loader.num_workers)
        waiting = (1 + loader.num_workers) * (1 + (loader.prefetch_factor or 0))  # batches, before workers
        self._is_own_part = share is not None and knows_of_processes(loader)
        self.is_sliced = share is not None and is_batched and not self._is_own_part
        own = share if self.is_sliced else None
        self.wholes: deque[Whole] = deque()
        self._is_regular = loader.collate_fn is default_collate
        self._order = EpochOrder(batches, seed, self.is_in_memory, waiting, own)
        self._loader: DataLoader[Any] = DataLoader(
            reader,
            batch_sampler=cast(Any, self._order),
            collate_fn=as_it_is,
            pin_memory=loader.pin_memory,
            generator=torch.Generator().manual_seed(seed),  # else it would draw from torch's
            **({} if self.is_in_memory else options_of_workers(loader)),
        )

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Any]:
        return self.epoch_batches(0, 0)

    def epoch_batches(self, epoch: int, skip: int) -> Iterator[Any]:
        """Return the batches of an epoch without the first ``skip``, whose samples are not read."""
        self._order.epoch, self._order.skip = epoch, skip
        self.wholes.clear()
        batches = raising(begun(self._loader))
        return self._marked(batches) if self.is_sliced else batches

    def _marked(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            indices, is_silent = self._order.cut.popleft()
            target = self._memory.target_of(indices) if self._memory is not None else None
            self.wholes.append(Whole(len(indices), target, self._is_regular))
            yield Silent(batch) if is_silent else batch

    def end_workers(self) -> None:
        end_workers(self._loader)

    def changed_order(self) -> str:
        """Return in words why an order may not be that of before."""
        return f"other data, or {self._order.sampler_name()} draws from what neither seed nor epoch decides"

    def fingerprint(self, epoch: int) -> str | None:
        """Return a fingerprint of the order of an epoch's batches so far, ``None`` before it has begun.

        It is ``None`` too for the order of one process's own part.
        """
        return None if self._is_own_part else self._order.fingerprint(epoch)

    def has_order(self, epoch: int, fingerprint: str) -> bool:
        """Return whether `fingerprint` of the same epoch, in another process, was of the same order."""
        return self._order.has(epoch, fingerprint)


class Shortened:
    """Abstract: the first batches of a loader.

    Args:
        loader: that gives the batches.
    """

    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader = loader


@contextmanager
def with_workers(loaders: Iterable[Any]) -> Iterator[None]:
    """Let workers leave signals to a run, and end those of loaders that `ordered` made when the block ends.

    References from one part of a run to another would keep them until Python collects the garbage.
    """
    loaders = [each.loader if isinstance(each, Shortened) else each for each in loaders]
    process = os.getpid()
    try:
        with with_workers_that_leave_signals(*loaders):
            yield
    except Exception:  # anything else ends the process, without waiting for a worker that hangs
        _end_workers(loaders, process)
        raise
    _end_workers(loaders, process)


def _end_workers(loaders: Iterable[Any], process: int) -> None:
    for loader in loaders:
        if isinstance(loader, OrderedLoader | StreamLoader) and os.getpid() == process:
            loader.end_workers()


def ordered(loader: Iterable[Any], seed: int, phase: str, share: Share | None = None) -> Iterable[Any]:
    """Return an `OrderedLoader` or a `StreamLoader` for an ordinary DataLoader, else ``loader``.

    Args:
        loader: of batches.
        seed: of the order.
        phase: ``"train"`` or ``"val"``.
        share: of this process in each batch.
    """
    if isinstance(loader, Shortened):
        shortened = copy.copy(loader)
        shortened.loader = ordered(loader.loader, seed, phase, share)
        return shortened
    if not _is_ordinary(loader):
        return loader
    if isinstance(loader.dataset, IterableDataset):
        return StreamLoader(loader, seed, phase)
    return OrderedLoader(loader, seed, phase, share)


def draw_seed(loader: Iterable[Any]) -> int:
    """Return a seed for the order, drawn from torch's generator as a DataLoader does; 0 for other loaders."""
    return int(torch.randint(2**62, (), generator=loader.generator)) if _is_ordinary(loader) else 0


def can_skip(loader: Iterable[Any]) -> bool:
    """Return whether an epoch of ``loader`` can begin at any batch and then give the same batches."""
    return isinstance(loader, OrderedLoader | StreamLoader | Sequence)


def epoch_batches(loader: Iterable[Any], epoch: int, skip: int = 0) -> Iterator[Any]:
    """Return the batches of an epoch without the first ``skip``."""
    if isinstance(loader, OrderedLoader | StreamLoader):
        batches = loader.epoch_batches(epoch, skip)
    else:
        batches = islice(begun(loader), skip, None) if skip else begun(loader)
    length = None if isinstance(loader, Sequence) else loader_length(loader)
    return batches if length is None else _counted(batches, loader, length, skip)


def changed_numbers(loader: Iterable[Any], fingerprint: str | None) -> Iterator[str]:
    """Yield in words how the release that took a fingerprint drew samples' random numbers by another rule.

    Before, they followed from the index of a sample, and a fingerprint did not say how many batches it is of.
    """
    is_drawn_from = isinstance(loader, OrderedLoader) and not loader.is_in_memory
    if is_drawn_from and fingerprint is not None and ":" not in fingerprint:
        yield (
            "the random numbers of a sample followed from its index and follow from its position in the "
            "epoch's order, so random augmentation differs from here on"
        )


def loader_length(loader: Iterable[Any]) -> int | None:
    """Return the number of batches that a loader says it has, ``None`` if it does not say."""
    try:
        return len(loader)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError, OverflowError):
        return None


def _counted(batches: Iterator[Any], loader: Any, length: int, skip: int) -> Iterator[Any]:
    """Yield batches, and warn at their end of a number that is not the loader's length."""
    given = skip
    for batch in batches:
        given += 1
        yield batch
    # Each worker of a stream may have a last batch of its own. A window of batches may reach beyond the last.
    most_off = loader.uneven if isinstance(loader, StreamLoader) else 0
    if given > skip and abs(given - length) > most_off:
        name = type(getattr(loader, "dataset", loader)).__name__
        warnings.warn(
            f"the length of the loader ({name}) is {length}, and it gave {given} batches; correct __len__ of "
            "its dataset or sampler, since progress, schedules and resuming count on it",
            ArgusWarning,
            stacklevel=2,
        )


def _is_ordinary(loader: Any) -> TypeGuard[DataLoader[Any]]:
    return type(loader) is DataLoader and not isinstance(loader.dataset, IterDataPipe)
