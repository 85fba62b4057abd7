"""The order of batches, and each sample's random numbers, follow from seed, epoch and index."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy
import pytest
import torch
from networks import batches
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    get_worker_info,
)

from argus_core import ArgusError
from argus_core.data.order import OrderedLoader, can_skip, draw_seed, epoch_batches, loader_length, ordered
from argus_core.tensors.rng import random_state, set_random_state


class Drawn(Dataset[Tensor]):
    """Each sample is its index and a random number of each generator."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([index, random.random(), float(numpy.random.rand()), torch.rand(()).item()])


class Shuffled(Sampler[int]):
    """A sampler of one's own, which draws as it goes along."""

    def __iter__(self) -> Iterator[int]:
        for _ in range(10):
            yield random.randrange(10)

    def __len__(self) -> int:
        return 10


class Wrapping(Sampler[int]):
    """A sampler around another, as those that share data between processes are."""

    def __init__(self, *samplers: Any) -> None:
        self.samplers = samplers

    def __iter__(self) -> Iterator[int]:
        for sampler in self.samplers:
            yield from sampler

    def __len__(self) -> int:
        return sum(map(len, self.samplers))


class Own(Sampler[int]):
    """A sampler that draws from a generator of its own, of any library."""

    def __init__(self, generator: Any) -> None:
        self.source = generator

    def __iter__(self) -> Iterator[int]:
        for _ in range(10):
            yield int(self.source.random() * 10)

    def __len__(self) -> int:
        return 10


class Duck:
    """A sampler that is not of torch's class, with generators in its class, a slot and the module."""

    __slots__ = ("own",)
    of_class = random.Random()

    def __init__(self) -> None:
        self.own = random.Random()

    def __iter__(self) -> Iterator[int]:
        for _ in range(10):
            yield int((OF_MODULE.random() + self.of_class.random() + self.own.random()) * 10) % 10

    def __len__(self) -> int:
        return 10


OF_MODULE = numpy.random.default_rng()


class Query:
    """An index that does not show what it is."""

    def __init__(self, index: int) -> None:
        self.index = index


class Queries(Shuffled):
    """Gives such indices."""

    def __iter__(self) -> Iterator[Any]:
        return map(Query, super().__iter__())


class Asked(Drawn):
    """Takes such indices."""

    def __getitem__(self, index: Any) -> Tensor:
        return super().__getitem__(index.index)


class Whole(Drawn):
    """Each sample is a batch, of one index or of a list of them."""

    def __getitem__(self, index: Any) -> Any:
        indices = index if isinstance(index, list) else [index, index]
        return numpy.stack([Drawn.__getitem__(self, each).numpy() for each in indices])

    def __getitems__(self, indices: Any) -> Any:
        raise AssertionError


def drawing() -> Sampler[int]:
    """Return a sampler with a generator that nobody has seeded."""
    generator = torch.Generator()
    generator.seed()
    return RandomSampler(range(10), generator=generator)


LOADERS: dict[str, Any] = {
    "nested": lambda: DataLoader(
        Drawn(), batch_sampler=BatchSampler(Wrapping(drawing(), drawing()), 4, False)
    ),
    "nested twice": lambda: DataLoader(Drawn(), 3, sampler=Wrapping(Wrapping(drawing()), Shuffled())),
    "own of Python": lambda: DataLoader(Drawn(), 3, sampler=Own(random.Random())),
    "own of numpy": lambda: DataLoader(Drawn(), 3, sampler=Own(numpy.random.default_rng())),
    "own of old numpy": lambda: DataLoader(Drawn(), 3, sampler=Own(numpy.random.RandomState())),
    "own of a class": lambda: DataLoader(Drawn(), 3, sampler=Duck()),  # type: ignore[arg-type]
    "other indices": lambda: DataLoader(Asked(), 3, sampler=Queries()),
    "no batches": lambda: DataLoader(Whole(), None, shuffle=True),
    "batches of a sampler": lambda: DataLoader(
        Whole(), None, sampler=BatchSampler(RandomSampler(range(10)), 3, False)
    ),
    "shuffle": lambda: DataLoader(Drawn(), 3, shuffle=True),
    "in order": lambda: DataLoader(Drawn(), 3),
    "generator": lambda: DataLoader(Drawn(), 3, shuffle=True, generator=torch.Generator().manual_seed(3)),
    "subset": lambda: DataLoader(Drawn(), 3, sampler=SubsetRandomSampler(range(7))),
    "weighted": lambda: DataLoader(Drawn(), 3, sampler=WeightedRandomSampler([1.0] * 10, 8)),
    "more than all": lambda: DataLoader(Drawn(), 3, sampler=RandomSampler(Drawn(), num_samples=25)),
    "own sampler": lambda: DataLoader(Drawn(), 3, sampler=Shuffled()),
    "own batches": lambda: DataLoader(Drawn(), batch_sampler=BatchSampler(RandomSampler(Drawn()), 4, True)),
    "workers": lambda: DataLoader(Drawn(), 3, shuffle=True, num_workers=2),
}


def values(loader: Any, epoch: int, skip: int = 0) -> list[list[list[float]]]:
    return [batch.tolist() for batch in epoch_batches(loader, epoch, skip)]


@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
def test_an_epoch_can_begin_anywhere_and_is_the_same_from_there(make: Any) -> None:
    loader = ordered(make(), 7, "train")
    whole = [values(loader, epoch) for epoch in range(2)]
    assert len(whole[0]) == len(loader)  # type: ignore[arg-type]
    again = ordered(make(), 7, "train")
    for epoch in (1, 0):
        for skip in range(len(whole[epoch]) + 1):
            assert values(again, epoch, skip) == whole[epoch][skip:]


@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
def test_no_generator_of_the_process_is_touched(make: Any) -> None:
    inner = make()
    loader = ordered(inner, 7, "train")
    before = (
        random.getstate(),
        numpy.random.get_state(legacy=True)[1].tolist(),
        torch.get_rng_state().tolist(),
    )
    own = inner.generator.get_state().tolist() if inner.generator is not None else None
    values(loader, 0)
    after = random.getstate(), numpy.random.get_state(legacy=True)[1].tolist(), torch.get_rng_state().tolist()
    assert before == after
    assert own is None or inner.generator.get_state().tolist() == own


def test_epochs_and_seeds_have_orders_and_augmentations_of_their_own() -> None:
    first, other = ordered(LOADERS["shuffle"](), 7, "train"), ordered(LOADERS["shuffle"](), 8, "train")
    assert len({str(each) for each in (values(first, 0), values(first, 1), values(other, 0))}) == 3
    numbers = {sample[1] for epoch in (0, 1) for batch in values(first, epoch) for sample in batch}
    assert len(numbers) == 20


def test_every_sample_comes_once_in_an_epoch() -> None:
    for epoch in range(3):
        indices = [
            sample[0]
            for batch in values(ordered(LOADERS["shuffle"](), 0, "train"), epoch)
            for sample in batch
        ]
        assert sorted(indices) == list(range(10))


def test_a_dataset_that_reads_whole_batches_still_does() -> None:
    class Reader(Drawn):
        def __getitems__(self, indices: list[int]) -> list[Tensor]:
            return [torch.tensor([len(indices), torch.rand(()).item()])]

    loader = ordered(DataLoader(Reader(), 4), 0, "train")
    assert [batch[0][0] for batch in values(loader, 0)] == [4, 4, 2]
    assert values(loader, 0) == values(loader, 0)


def test_the_seed_is_drawn_from_the_loaders_own_generator_or_from_torchs() -> None:
    own = DataLoader(Drawn(), 3, generator=torch.Generator().manual_seed(1))
    assert draw_seed(own) != draw_seed(own)
    torch.manual_seed(0)
    first = draw_seed(LOADERS["shuffle"]())
    torch.manual_seed(0)
    assert draw_seed(LOADERS["shuffle"]()) == first


def test_other_loaders_stay_as_they_are_and_draw_nothing() -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter(())

    class Special(DataLoader[Any]):
        pass

    before = torch.get_rng_state()
    for loader in (batches(), Special(Stream()), Special(Drawn())):
        assert ordered(loader, 0, "train") is loader
        assert draw_seed(loader) == 0
    assert torch.equal(before, torch.get_rng_state())


def test_lists_and_ordinary_loaders_can_skip_and_streams_cannot() -> None:
    assert can_skip(batches())
    assert can_skip(ordered(LOADERS["shuffle"](), 0, "train"))
    assert not can_skip(iter(batches()))
    assert [len(target) for _, target in epoch_batches(batches(), 0, 1)] == [8, 5]


def test_a_random_state_comes_back() -> None:
    state = random_state()
    drawn = [(random.gauss(0, 1), numpy.random.randn(), torch.randn(()).item()) for _ in range(3)]
    set_random_state(state)
    assert [(random.gauss(0, 1), numpy.random.randn(), torch.randn(()).item()) for _ in range(3)] == drawn


def test_an_ordered_loader_is_a_loader() -> None:
    loader = ordered(LOADERS["shuffle"](), 7, "train")
    assert isinstance(loader, OrderedLoader)
    assert [batch.tolist() for batch in loader] == values(loader, 0)


class Opened(Dataset[Tensor]):
    """A dataset that a worker opens by itself, as torch's documentation shows."""

    factor: float

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor(index * self.factor)


def open_in_worker(worker: int) -> None:
    info = get_worker_info()
    assert info is not None
    info.dataset.factor = 10.0


def test_a_worker_finds_its_own_dataset() -> None:
    loader = DataLoader(Opened(), 2, num_workers=2, worker_init_fn=open_in_worker)
    assert [batch.tolist() for batch in ordered(loader, 0, "train")] == [[0.0, 10.0], [20.0, 30.0]]


def test_a_sampler_without_an_end_can_begin_anywhere() -> None:
    class Endless(Sampler[int]):
        def __iter__(self) -> Iterator[int]:
            while True:
                yield random.randrange(10)

    def first(skip: int) -> list[Any]:
        loader = ordered(DataLoader(Drawn(), 2, sampler=Endless()), 0, "train")
        assert loader_length(loader) is None
        return [batch.tolist() for batch in islice(epoch_batches(loader, 0, skip), 40)]

    assert first(0)[10:] == first(10)[:30]


def test_samplers_side_by_side_draw_independently_of_each_other() -> None:
    loader = ordered(DataLoader(Drawn(), 10, sampler=Wrapping(drawing(), drawing())), 0, "train")
    first, second = ([sample[0] for sample in batch] for batch in values(loader, 0))
    assert sorted(first) == sorted(second)
    assert first != second


def test_every_sampler_hears_of_the_epoch() -> None:
    class Hearing(Wrapping):
        def set_epoch(self, epoch: int) -> None:
            heard.append(epoch)

    heard: list[int] = []
    values(ordered(DataLoader(Drawn(), 5, sampler=Wrapping(Hearing(range(10)))), 0, "train"), 3)
    assert heard == [3]


def fingerprints(make: Any, seed: int = 7) -> list[Any]:
    loader = ordered(make(), seed, "train")
    assert isinstance(loader, OrderedLoader)
    found = []
    for epoch in range(2):
        assert loader.fingerprint(epoch) is None
        values(loader, epoch)
        found.append(loader.fingerprint(epoch))
    return found


def test_a_fingerprint_tells_orders_apart() -> None:
    shuffled = fingerprints(LOADERS["shuffle"])
    assert fingerprints(LOADERS["shuffle"]) == shuffled
    others = [LOADERS["in order"], lambda: DataLoader(Drawn(), 4, shuffle=True)]
    assert (
        len({*shuffled, *fingerprints(LOADERS["shuffle"], 8), *(fingerprints(each)[0] for each in others)})
        == 6
    )


@pytest.mark.parametrize("name", ["shuffle", "own sampler", "subset", "workers"])
def test_a_fingerprint_of_any_moment_of_an_epoch_is_recognised(name: str) -> None:
    loader, again = (ordered(LOADERS[name](), 7, "train") for _ in range(2))
    assert isinstance(loader, OrderedLoader)
    assert isinstance(again, OrderedLoader)
    for skip in (0, 1):
        for _ in epoch_batches(loader, 1, skip):
            fingerprint = loader.fingerprint(1)
            assert fingerprint is not None
            assert again.has_order(1, fingerprint)
            assert not again.has_order(0, fingerprint)
            assert again.has_order(1, fingerprint)


def test_a_fingerprint_of_objects_without_a_value_is_that_of_another_process() -> None:
    loader, again = (ordered(LOADERS["other indices"](), 7, "train") for _ in range(2))
    kept = values(loader, 0)  # so that no object of the second loader is where one of the first was
    assert again.has_order(0, loader.fingerprint(0))  # type: ignore[attr-defined]
    assert kept


EARLIER = {
    "in order": "02a5cae158b6160a767aa076dcdf2a2a",
    "more than all": "2d3fac7dd9f9713f411e4f61646d646c",
    "generator": "98564abef308d902a707784010ea95d8",
    "own of numpy": "5526829ffcaa7bb80e80256b5447ce4d",
    "nested twice": "593f9ccfb450b27ba0beecec8d0b06ee",
    "shuffle": "dd2c0d458fef89eecb0e493adad42d8b",
    "own sampler": "a45c0abeb6bb6d54ea56d4184473a859",
    "subset": "e59176cadd605245bc2ddc226a151d55",
    "weighted": "43caa8bf598f4850f0004e67506ca8b6",
}


@pytest.mark.parametrize(("name", "expected"), EARLIER.items())
def test_orders_and_their_fingerprints_are_those_of_earlier_releases(name: str, expected: str) -> None:
    loader = ordered(LOADERS[name](), 7, "train")
    assert isinstance(loader, OrderedLoader)
    assert loader.has_order(1, expected)
    assert loader.has_order(0, expected) == (name == "in order")


class Stopping(Drawn):
    """Has a sample that raises StopIteration, as one that reads an iterator beyond its end does."""

    def __getitem__(self, index: int) -> Tensor:
        return next(iter([])) if index == 5 else super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("skip", [0, 1])
def test_a_sample_that_raises_stop_iteration_does_not_end_the_epoch_in_silence(
    workers: int, skip: int
) -> None:
    given = epoch_batches(ordered(DataLoader(Stopping(), 2, num_workers=workers), 0, "train"), 0, skip)
    assert len(list(islice(given, 2 - skip))) == 2 - skip
    with pytest.raises(ArgusError, match="the dataset Stopping raised StopIteration at index 5"):
        next(given)
