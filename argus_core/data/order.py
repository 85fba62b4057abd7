"""Reproducible order of batches: the permutation of an epoch depends on (seed, epoch).

A resumed run skips indices without reading data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from hashlib import blake2b
from itertools import islice
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, IterableDataset, Sampler, get_worker_info

from argus_core.data.memory import MemoryReader, is_in_memory
from argus_core.data.reading import BatchReader, Chosen, Samples, as_it_is
from argus_core.data.workers import begun, leaving_signals
from argus_core.errors import ArgusError
from argus_core.tensors.generators import is_generator
from argus_core.tensors.rng import kept_random_state, key_seed, seed_all, seeded

__all__ = [
    "OrderedLoader",
    "can_skip",
    "draw_seed",
    "epoch_batches",
    "loader_length",
    "ordered",
    "own_dataset",
]

_MOST_SAMPLERS = 100  # in a list of samplers; longer lists hold indices or weights


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
        self._plan = _Plan(loader, seed)
        reader: Any = BatchReader(loader.dataset, loader.collate_fn, seed, phase)
        if is_in_memory(loader):
            reader, workers = MemoryReader(loader.dataset, reader), {}
        else:
            workers = _workers_of(loader)
        self._loader: DataLoader[Any] = DataLoader(
            reader,
            batch_sampler=cast(Any, self._plan),
            collate_fn=as_it_is,
            pin_memory=loader.pin_memory,
            generator=torch.Generator().manual_seed(seed),  # else it would draw from torch's
            **workers,
        )

    def __len__(self) -> int:
        return len(self._plan)

    def __iter__(self) -> Iterator[Any]:
        return self.epoch_batches(0, 0)

    def epoch_batches(self, epoch: int, skip: int) -> Iterator[Any]:
        """Return the batches of an epoch without the first ``skip``, whose samples are not read.

        Raises:
            ArgusError: the loader ends before the sampler does.
        """
        self._plan.epoch, self._plan.skip = epoch, skip
        return _whole(begun(self._loader), self._plan.count(epoch) - skip)

    def sampler_name(self) -> str:
        """Return the classes of the samplers, for messages."""
        return self._plan.sampler_name()

    def fingerprint(self, epoch: int, draw: bool = False) -> str | None:
        """Return a fingerprint of the order of an epoch's batches, to compare it with another order.

        Args:
            epoch: counts from 0.
            draw: whether to draw the order if it is not the one drawn last; else ``None`` is returned.
        """
        return self._plan.fingerprint(epoch) if draw or self._plan.knows(epoch) else None


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


def loader_length(loader: Iterable[Any]) -> int | None:
    """Return the number of batches of a loader, ``None`` for an iterable dataset or a generator."""
    try:
        return len(loader)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return None


def _whole(batches: Iterator[Any], count: int) -> Iterator[Any]:
    """Yield all of ``count`` batches: a dataset's StopIteration would pass for the end of the epoch."""
    given = 0
    for batch in batches:
        given += 1
        yield batch
    if given < count:
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


class _Plan:
    """The indices of the samples in each batch of the next epoch."""

    def __init__(self, loader: DataLoader[Any], seed: int) -> None:
        self.epoch = 0
        self.skip = 0
        self._seed = seed
        self._batches: Iterable[list[Any]] = loader.batch_sampler  # type: ignore[assignment]
        self._known: tuple[int, list[list[Any]]] | None = None
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self._batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Chosen]:
        epoch, skip, position = self.epoch, self.skip, 0
        for number, batch in enumerate(self._drawn(epoch)):
            if number >= skip:
                yield Chosen(epoch, position, batch)
            position += len(batch)

    def sampler_name(self) -> str:
        return " over ".join(type(sampler).__name__ for sampler in _held(self._batches)[0])

    def knows(self, epoch: int) -> bool:
        """Return whether the order of that epoch is the one drawn last."""
        return self._known is not None and self._known[0] == epoch

    def count(self, epoch: int) -> int:
        """Return how many batches the epoch has."""
        return len(self._drawn(epoch))

    def fingerprint(self, epoch: int) -> str:
        batches = self._drawn(epoch)
        if self._fingerprint is None:
            digest = blake2b(digest_size=16)
            for batch in batches:
                digest.update(repr(batch).encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def _drawn(self, epoch: int) -> list[list[Any]]:
        if self._known is None or self._known[0] != epoch:
            self._known, self._fingerprint = (epoch, self._draw(epoch)), None
        return self._known[1]

    def _draw(self, epoch: int) -> list[list[Any]]:
        samplers, generators = _held(self._batches)
        for sampler in samplers:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
        with ExitStack() as stack:
            stack.enter_context(kept_random_state())
            seed_all(key_seed(self._seed, epoch))
            for number, generator in enumerate(generators):
                # Generators after the first get different seeds, else their numbers would be correlated.
                key = (self._seed, epoch, number) if number else (self._seed, epoch)
                stack.enter_context(seeded(generator, key_seed(*key)))
            # All at once: samplers may draw at any time, and no other code may draw in between.
            return list(self._batches)


def _held(batches: Any) -> tuple[list[Any], list[Any]]:
    """Return all samplers that make the batches, nested ones too, and their generators."""
    samplers, generators, seen = [], [], {id(batches)}
    waiting = [batches]
    while waiting:
        sampler = waiting.pop(0)
        samplers.append(sampler)
        for value in _values(getattr(sampler, "__dict__", {})):
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, type):
                continue
            if is_generator(value):
                generators.append(value)
            elif (
                isinstance(value, Sampler)
                or {"sampler", "batch_sampler"} & getattr(value, "__dict__", {}).keys()
            ):
                waiting.append(value)
    return samplers, generators


def _values(attributes: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the values of attributes, and the items of those that are short lists."""
    for value in attributes.values():
        if isinstance(value, list | tuple | dict) and len(value) <= _MOST_SAMPLERS:
            yield from value.values() if isinstance(value, dict) else value
        else:
            yield value


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
