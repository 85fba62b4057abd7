"""The order of batches, and the random numbers of each sample, as functions of seed, epoch and index.

A run that continues skips indices, not data: the permutation of an epoch follows from (seed, epoch), and
whatever random numbers a dataset draws for a sample from (seed, epoch, index), in whichever process.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from argus_core.rng import kept_random_state, key_seed, seed_all

__all__ = ["OrderedLoader", "can_skip", "draw_seed", "epoch_batches", "ordered"]

Key = tuple[int, Any]
"""An epoch, and an index into the dataset."""


class OrderedLoader:
    """Gives the batches of a DataLoader in an order that follows from a seed and the epoch.

    Args:
        loader: whose dataset, sampler, workers and collation are used; it is not iterated itself.
        seed: of the order and of the samples' random numbers.
    """

    def __init__(self, loader: DataLoader[Any], seed: int) -> None:
        self.seed = seed
        self.dataset = loader.dataset
        self._plan = _Plan(loader, seed)
        self._loader: DataLoader[Any] = DataLoader(
            _SeededDataset(loader.dataset, seed),
            batch_sampler=cast(Any, self._plan),
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=partial(_start_worker, loader.worker_init_fn),
            multiprocessing_context=loader.multiprocessing_context,
            generator=torch.Generator().manual_seed(seed),  # or it would draw from torch's
            prefetch_factor=loader.prefetch_factor,
            persistent_workers=loader.persistent_workers,
        )

    def __len__(self) -> int:
        return len(self._plan)

    def __iter__(self) -> Iterator[Any]:
        return self.epoch_batches(0, 0)

    def epoch_batches(self, epoch: int, skip: int) -> Iterator[Any]:
        """Return the batches of an epoch without the first ``skip``, whose samples are never read."""
        self._plan.epoch, self._plan.skip = epoch, skip
        return iter(self._loader)


def ordered(loader: Iterable[Any], seed: int) -> Iterable[Any]:
    """Return an `OrderedLoader` for an ordinary DataLoader over a dataset with indices, else ``loader``."""
    return OrderedLoader(cast("DataLoader[Any]", loader), seed) if _is_ordinary(loader) else loader


def draw_seed(loader: Iterable[Any]) -> int:
    """Return a seed for the order: drawn once, as an ordinary DataLoader does itself; 0 for other loaders."""
    if not _is_ordinary(loader):
        return 0
    generator = cast("DataLoader[Any]", loader).generator
    return int(torch.randint(2**62, (), generator=generator))


def can_skip(loader: Iterable[Any]) -> bool:
    """Return whether an epoch of ``loader`` can begin anywhere and give the same batches from there on."""
    return isinstance(loader, OrderedLoader | Sequence)


def epoch_batches(loader: Iterable[Any], epoch: int, skip: int = 0) -> Iterator[Any]:
    """Return the batches of an epoch without the first ``skip``."""
    if isinstance(loader, OrderedLoader):
        return loader.epoch_batches(epoch, skip)
    return islice(iter(loader), skip, None) if skip else iter(loader)


def _is_ordinary(loader: Any) -> bool:
    is_mapped = type(loader) is DataLoader and not isinstance(loader.dataset, IterableDataset)
    return is_mapped and loader.batch_sampler is not None and _has_end(loader.batch_sampler)


def _has_end(batches: Any) -> bool:
    """Return whether batches can be counted; those that cannot may go on for ever."""
    try:
        return len(batches) >= 0
    except (TypeError, NotImplementedError):
        return False


class _Plan:
    """Which samples make which batches, in the epoch that is next."""

    def __init__(self, loader: DataLoader[Any], seed: int) -> None:
        self.epoch = 0
        self.skip = 0
        self._seed = seed
        self._batches: Iterable[list[Any]] = loader.batch_sampler  # type: ignore[assignment]
        samplers: list[Any] = [loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None)]
        self._samplers = [sampler for sampler in samplers if sampler is not None]

    def __len__(self) -> int:
        return len(self._batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[Key]]:
        epoch = self.epoch
        for batch in self._drawn(epoch)[self.skip :]:
            yield [(epoch, index) for index in batch]

    def _drawn(self, epoch: int) -> list[list[Any]]:
        generators = [
            generator
            for sampler in self._samplers
            if isinstance(generator := getattr(sampler, "generator", None), torch.Generator)
        ]
        states = [generator.get_state() for generator in generators]
        seed = key_seed(self._seed, epoch)
        for sampler in self._samplers:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
        with kept_random_state():
            seed_all(seed)
            for generator in generators:
                generator.manual_seed(seed)
            # All at once: samplers draw when they please, and nobody else may draw in between.
            batches = list(self._batches)
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        return batches


class _SeededDataset(Dataset[Any]):
    """Seeds every generator before it reads a sample."""

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self.dataset: Any = dataset
        self._seed = seed

    def __getitems__(self, keys: Sequence[Key]) -> Any:
        if get_worker_info() is not None:
            return self._read(keys)
        with kept_random_state():  # the network draws from the same generators
            return self._read(keys)

    def _read(self, keys: Sequence[Key]) -> Any:
        if callable(getattr(self.dataset, "__getitems__", None)):  # reads a batch at once
            seed_all(key_seed(self._seed, *keys[0]))
            return self.dataset.__getitems__([index for _, index in keys])
        return [self._sample(epoch, index) for epoch, index in keys]

    def _sample(self, epoch: int, index: Any) -> Any:
        seed_all(key_seed(self._seed, epoch, index))
        return self.dataset[index]


def _start_worker(init: Callable[[int], None] | None, worker: int) -> None:
    # Ctrl-C reaches the workers too; the run needs them until it has saved.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    info = get_worker_info()
    assert info is not None
    # Whatever looks there expects its own dataset; WorkerInfo itself refuses to be changed.
    object.__setattr__(info, "dataset", info.dataset.dataset)  # type: ignore[attr-defined]
    if init is not None:
        init(worker)
