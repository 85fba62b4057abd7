"""Reading a batch, each sample with random numbers that follow from its place.

A sample's numbers are a function of (seed, phase, epoch, position in the epoch's order), in any process. A
dataset that reads a batch in one call gets those of the batch's first position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy
from torch.utils.data import Dataset, Subset, default_collate, get_worker_info

from argus_core.data.draws import Draws
from argus_core.data.failures import Failure, collation_error, sample_error, samples_error
from argus_core.tensors.rng import key_seed

__all__ = ["BatchReader", "Chosen", "Samples", "as_it_is", "own_dataset"]


_FIRST = 16  # samples from which a dataset shows what it draws from


class Chosen(NamedTuple):
    """The samples of a batch.

    Attributes:
        epoch: counts from 0.
        position: of the first of them in the epoch's order.
        indices: into the dataset, a sequence, or a tensor where `MemoryReader` takes them.
    """

    epoch: int
    position: int
    indices: Any


def as_it_is(batch: Any) -> Any:
    """Return a batch that is collated already: the ``collate_fn`` of a loader over a `BatchReader`."""
    return batch


class BatchReader:
    """Takes the place of a DataLoader's dataset, and gives whole batches.

    Args:
        dataset: has indices.
        collate: makes a batch of samples.
        seed: of the random numbers.
        phase: ``"train"`` or ``"val"``, whose random numbers differ.
        sampler: the class that chooses the samples, for messages.
        is_batched: samples are collated, as a DataLoader with a batch size does; else each is a batch itself.

    Attributes:
        positions: in memory that workers share, of the batch that each has begun last, where there are some.
    """

    positions: Any = None

    def __init__(
        self,
        dataset: Dataset[Any],
        collate: Callable[[list[Any]], Any],
        seed: int,
        phase: str,
        sampler: str = "the sampler",
        is_batched: bool = True,
    ) -> None:
        self.dataset = dataset
        self._samples = Samples(dataset, sampler, is_batched)
        self._is_batched = is_batched
        self.collate = collate
        self._key = seed, phase
        self._draws: Draws | None = None  # of this process

    def __getitems__(self, chosen: Chosen) -> Any:
        if self._draws is None:
            self._draws = Draws(self.dataset, self.collate)
        draws, worker = self._draws, get_worker_info()
        if worker is not None and self.positions is not None:
            self.positions[worker.id] = chosen.position
        draws.keep()
        is_read = False
        try:
            while not is_read:
                try:
                    batch = self._read(chosen, draws)
                    is_read = not draws.learn()
                except Exception as error:
                    if not draws.learn():
                        if worker is None:
                            raise
                        return Failure(error)
            return batch
        finally:
            draws.restore(is_read)

    def _read(self, chosen: Chosen, draws: Draws) -> Any:
        indices = chosen.indices
        if not draws.seeded:
            return self._collated(self._samples.__getitems__(indices), indices)
        key = key_seed(*self._key, chosen.epoch)
        seeds = _seeds(key, chosen.position, max(1, len(indices)))
        number = 0
        while draws.is_new:
            number = len(indices) if self._samples.is_read_at_once() else _FIRST
            samples = self._samples.__getitems__(indices[:number], seeds, _seeders(draws))
            if not draws.judge():
                break
        if number == 0:
            samples = self._samples.__getitems__(indices, seeds, _seeders(draws))
        elif number < len(indices):
            rest = self._samples.__getitems__(indices[number:], seeds[number:], _seeders(draws))
            samples = [*samples, *rest]
        if self.collate is not default_collate:
            (seed,) = _seeds(key_seed(key, "collate"), chosen.position, 1)
            for source in draws.seeded:
                source.seed(seed)
        return self._collated(samples, indices)

    def _collated(self, samples: Any, indices: Sequence[Any]) -> Any:
        samples = samples if self._is_batched else samples[0]
        try:
            return self.collate(samples)
        except Exception as error:
            _, inner = self._samples.inner(indices)
            _raise(collation_error(error, self.collate, samples, inner), error)


def _raise(told: Exception, error: Exception) -> NoReturn:
    if told is error:
        raise error
    raise told from error


def _seeders(draws: Draws) -> list[Callable[[int], None]]:
    return [source.seed for source in draws.seeded]


class Samples(Dataset[Any]):
    """The samples of a dataset, read past the views of it that `Subset` gives.

    Args:
        dataset: has indices.
        sampler: the class that chooses the samples, for messages.
        is_batched: the dataset's ``__getitems__`` is called, if it has one.
    """

    def __init__(self, dataset: Dataset[Any], sampler: str = "the sampler", is_batched: bool = True) -> None:
        self.dataset = dataset
        self._sampler = sampler
        self._is_batched = is_batched

    def is_read_at_once(self) -> bool:
        """Return whether the dataset reads all samples of a batch in one call."""
        dataset: Any = self.dataset
        while type(dataset) is Subset:
            dataset = dataset.dataset
        return self._whole_reader(dataset) is not None

    def __getitems__(
        self,
        indices: Sequence[Any],
        seeds: Sequence[int] = (),
        seeders: Sequence[Callable[[int], None]] = (),
    ) -> Any:
        """Return samples as a DataLoader reads them.

        Args:
            indices: of the samples.
            seeds: one for each.
            seeders: called with a sample's seed before it is read, or with the first before all are at once.
        """
        dataset, indices = self.inner(indices)
        whole = self._whole_reader(dataset)
        if whole is not None:
            for seed_source in seeders:
                seed_source(seeds[0])
            try:
                return whole(indices)
            except Exception as error:
                _raise(samples_error(error, dataset, indices), error)
        samples: list[Any] = []
        try:
            if not seeders:
                for index in indices:
                    samples.append(dataset[index])
            for index, seed in zip(indices, seeds, strict=False) if seeders else ():
                for seed_source in seeders:
                    seed_source(seed)
                samples.append(dataset[index])
        except Exception as error:
            _raise(sample_error(error, dataset, indices[len(samples)], self._sampler), error)
        return samples

    def _whole_reader(self, dataset: Any) -> Callable[[Sequence[Any]], Any] | None:
        """Return the method by which a dataset reads a batch at once, if it has one."""
        if not self._is_batched:
            return None
        whole: Callable[[Sequence[Any]], Any] | None = getattr(dataset, "__getitems__", None)
        return whole if callable(whole) else None

    def inner(self, indices: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
        """Return the dataset behind all subsets, and the indices into it."""
        dataset: Any = self.dataset
        while type(dataset) is Subset:
            inner: list[Any] = []
            try:
                for index in indices:
                    inner.append(dataset.indices[index])
            except Exception as error:
                _raise(sample_error(error, dataset, indices[len(inner)], self._sampler), error)
            dataset, indices = dataset.dataset, inner
        return dataset, indices


def own_dataset(dataset: Any) -> Any:
    """Return the user's dataset behind what reads it."""
    return dataset.dataset if isinstance(dataset, Samples | BatchReader) else dataset


def _seeds(key: int, first: int, count: int) -> list[int]:
    """Return a seed of 64 bits for each of ``count`` positions (SplitMix64, Steele et al. 2014)."""
    bits = numpy.arange(first + 1, first + count + 1, dtype=numpy.uint64)
    bits = bits * numpy.uint64(0x9E3779B97F4A7C15) + numpy.uint64(key)
    bits = (bits ^ (bits >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    seeds: list[int] = (bits ^ (bits >> numpy.uint64(31))).tolist()
    return seeds
