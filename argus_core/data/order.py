"""Data loaders whose order and random numbers a run decides, so that it can be resumed at any batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from argus_core.data.epoch_order import EpochOrder, Given
from argus_core.data.memory import MemoryReader, is_in_memory
from argus_core.data.reading import BatchReader, Samples, as_it_is
from argus_core.data.workers import begun, leaving_signals
from argus_core.errors import ArgusError

__all__ = [
    "OrderedLoader",
    "can_skip",
    "changed_numbers",
    "draw_seed",
    "epoch_batches",
    "loader_length",
    "ordered",
    "own_dataset",
]


class OrderedLoader:
    """The batches of a DataLoader in an order that depends on a seed and the epoch only.

    Args:
        loader: its dataset, sampler, workers and collation are used; it is not iterated itself.
        seed: of the order and of the samples' random numbers.
        phase: ``"train"`` or ``"val"``; the samples' random numbers differ.
    """

    def __init__(self, loader: DataLoader[Any], seed: int, phase: str) -> None:
        self.seed = seed
        self.dataset = loader.dataset
        reader: Any = BatchReader(loader.dataset, loader.collate_fn, seed, phase)
        self.is_in_memory = is_in_memory(loader)
        if self.is_in_memory:
            reader = MemoryReader(loader.dataset, reader)
        self._order = EpochOrder(loader.batch_sampler, seed, as_tensors=self.is_in_memory)
        self._loader: DataLoader[Any] = DataLoader(
            reader,
            batch_sampler=cast(Any, self._order),
            collate_fn=as_it_is,
            pin_memory=loader.pin_memory,
            generator=torch.Generator().manual_seed(seed),  # else it would draw from torch's
            **({} if self.is_in_memory else _workers_of(loader)),
        )

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Any]:
        return self.epoch_batches(0, 0)

    def epoch_batches(self, epoch: int, skip: int) -> Iterator[Any]:
        """Return the batches of an epoch without the first ``skip``, whose samples are not read.

        Raises:
            ArgusError: the loader ends before the sampler does.
        """
        self._order.epoch, self._order.skip = epoch, skip
        batches = begun(self._loader)
        return _whole(batches, self._order.given, len(self) - skip)

    def sampler_name(self) -> str:
        """Return the classes of the samplers, for messages."""
        return self._order.sampler_name()

    def fingerprint(self, epoch: int) -> str | None:
        """Return a fingerprint of the order of an epoch's batches so far, ``None`` before it has begun."""
        return self._order.fingerprint(epoch)

    def has_order(self, epoch: int, fingerprint: str) -> bool:
        """Return whether `fingerprint` of the same epoch, in another process, was of the same order."""
        return self._order.has(epoch, fingerprint)


def _workers_of(loader: DataLoader[Any]) -> dict[str, Any]:
    """Return the options of a loader's workers, who leave signals to the run."""
    if loader.num_workers == 0:
        return {}
    return {
        "num_workers": loader.num_workers,
        "timeout": loader.timeout,
        "worker_init_fn": leaving_signals(partial(_show_own_dataset, loader.worker_init_fn)),
        "multiprocessing_context": loader.multiprocessing_context,
        "prefetch_factor": loader.prefetch_factor,
        "persistent_workers": loader.persistent_workers,
    }


def ordered(loader: Iterable[Any], seed: int, phase: str) -> Iterable[Any]:
    """Return an `OrderedLoader` for an ordinary DataLoader over a dataset with indices, else ``loader``."""
    return OrderedLoader(cast("DataLoader[Any]", loader), seed, phase) if _is_ordinary(loader) else loader


def draw_seed(loader: Iterable[Any]) -> int:
    """Return a seed for the order, drawn from torch's generator as a DataLoader does; 0 for other loaders."""
    if not _is_ordinary(loader):
        return 0
    generator = cast("DataLoader[Any]", loader).generator
    return int(torch.randint(2**62, (), generator=generator))


def can_skip(loader: Iterable[Any]) -> bool:
    """Return whether an epoch of ``loader`` can begin at any batch and then give the same batches."""
    return isinstance(loader, OrderedLoader | Sequence)


def epoch_batches(loader: Iterable[Any], epoch: int, skip: int = 0) -> Iterator[Any]:
    """Return the batches of an epoch without the first ``skip``."""
    if isinstance(loader, OrderedLoader):
        return loader.epoch_batches(epoch, skip)
    return islice(begun(loader), skip, None) if skip else begun(loader)


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
    """Return the number of batches of a loader, ``None`` for an iterable dataset or a generator."""
    try:
        return len(loader)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return None


def _whole(batches: Iterator[Any], chosen: Given, count: int) -> Iterator[Any]:
    """Yield all batches that were chosen: a dataset's StopIteration would pass for the end of the epoch."""
    given = 0
    for batch in batches:
        given += 1
        yield batch
    if given < chosen.batches or not chosen.is_all:
        raise ArgusError(
            f"the loader gave {given} of {count} batches; its dataset or collate_fn raised StopIteration, as "
            "next() does at the end of an iterator; catch it there, or raise another exception"
        )


def _is_ordinary(loader: Any) -> bool:
    is_mapped = type(loader) is DataLoader and not isinstance(loader.dataset, IterableDataset)
    return is_mapped and loader.batch_sampler is not None and _has_end(loader.batch_sampler)


def _has_end(batches: Any) -> bool:
    """Return whether batches can be counted; others may be infinite."""
    try:
        return len(batches) >= 0
    except (TypeError, NotImplementedError):
        return False


def own_dataset(dataset: Any) -> Any:
    """Return the user's dataset behind what reads it."""
    return dataset.dataset if isinstance(dataset, Samples) else dataset


def _show_own_dataset(init: Callable[[int], None] | None, worker: int) -> None:
    info = get_worker_info()
    assert info is not None
    # User code expects its own dataset there; WorkerInfo does not allow assignments.
    object.__setattr__(info, "dataset", info.dataset.dataset)  # type: ignore[attr-defined]
    if init is not None:
        init(worker)
