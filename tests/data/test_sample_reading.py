"""A sample's random numbers follow from seed, phase, epoch and position, however and wherever it is read."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, WeightedRandomSampler, default_collate

from argus_core.data.order import epoch_batches, ordered

SAMPLES = 20

Draw = Callable[[Any, int], float]


def of_torch(dataset: Any, index: int) -> float:
    return torch.rand(()).item()


def of_numpy(dataset: Any, index: int) -> float:
    return float(numpy.random.randn())


def of_python(dataset: Any, index: int) -> float:
    return random.gauss(0, 1)


def of_all(dataset: Any, index: int) -> float:
    return of_torch(dataset, index) + of_numpy(dataset, index) + of_python(dataset, index)


def of_none(dataset: Any, index: int) -> float:
    return float(index)


def sometimes(dataset: Any, index: int) -> float:
    drawn = of_torch(dataset, index) if index % 3 == 0 else 0.0
    if index == 11:
        drawn += of_numpy(dataset, index)
    return drawn + of_python(dataset, index) if index >= 17 else drawn


def of_own(dataset: Any, index: int) -> float:
    own = torch.rand((), generator=dataset.of_torch).item()
    return own + float(dataset.of_numpy.random()) + dataset.of_python.random()


def of_own_and_torch(dataset: Any, index: int) -> float:
    return (of_own(dataset, index) if index > 9 else 0.0) + of_torch(dataset, index)


OF_MODULE = numpy.random.default_rng()


def of_module() -> float:
    return float(OF_MODULE.random())


def of_elsewhere(dataset: Any, index: int) -> float:
    bits = float(dataset.of_slot.bits.random_raw() % 1000)
    return of_module() + dataset.of_class.random() + dataset.method() + (bits if index > 5 else 0.0)


def of_one_made_when_read(dataset: Any, index: int) -> float:
    if dataset.made is None:
        dataset.made = numpy.random.default_rng()
    return float(dataset.made.random())


def counting(dataset: Any, index: int) -> float:
    dataset.reads += 1
    return sometimes(dataset, index)


DRAWS: list[Draw] = [
    of_torch, of_numpy, of_python, of_all, of_none, sometimes, of_own, of_own_and_torch,
    of_elsewhere, of_one_made_when_read, counting,
]  # fmt: skip


class Slotted:
    __slots__ = ("bits",)

    def __init__(self) -> None:
        self.bits = numpy.random.PCG64()


class Drawn(Dataset[Tensor]):
    """Each sample is its index and what it draws."""

    of_class = random.Random()

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.of_slot = Slotted()
        self.method = random.Random().random
        self.of_torch, self.of_numpy, self.of_python = (
            torch.Generator(),
            numpy.random.default_rng(),
            random.Random(),
        )
        self.made = None
        self.reads = 0

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([index, self.draw(self, index)], dtype=torch.float64)


class Opaque(Drawn):
    """The same, whose generators are seeded for each sample since nobody can see whether it changes."""

    def __init__(self, draw: Draw) -> None:
        super().__init__(draw)
        self.lock = threading.Lock()


def epochs(dataset: Any, skip: int = 0, phase: str = "train", seed: int = 7, **options: Any) -> list[Any]:
    options = {"batch_size": 3, "shuffle": True, **options}
    loader = ordered(DataLoader(dataset, **options), seed, phase)
    return [[batch.tolist() for batch in epoch_batches(loader, epoch, skip)] for epoch in range(2)]


@pytest.mark.parametrize("draw", DRAWS, ids=lambda draw: draw.__name__)
def test_every_way_of_reading_gives_the_same_numbers(draw: Draw) -> None:
    # No generator can be seeded before a dataset has made it: that takes a second reading.
    expected = epochs(Opaque(draw) if draw is not of_one_made_when_read else Drawn(draw))
    rows = [row for epoch in expected for batch in epoch for row in batch]
    if draw not in (of_none, sometimes, counting):
        assert len({drawn for _, drawn in rows}) == 2 * SAMPLES
    dataset = Drawn(draw)
    assert epochs(dataset) == expected
    assert epochs(dataset) == expected  # whatever it has drawn before
    assert epochs(Subset(Subset(Drawn(draw), range(SAMPLES)), range(SAMPLES))) == expected
    assert epochs(Drawn(draw), skip=4) == [epoch[4:] for epoch in expected]
    assert epochs(Drawn(draw), num_workers=2, persistent_workers=True) == expected
    if draw in (of_all, sometimes):
        assert epochs(Drawn(draw), num_workers=2) == expected
        assert epochs(Drawn(draw), skip=4, num_workers=1) == [epoch[4:] for epoch in expected]
        assert epochs(Subset(Drawn(draw), range(SAMPLES)), num_workers=1) == expected


@pytest.mark.parametrize("draw", DRAWS, ids=lambda draw: draw.__name__)
def test_the_size_of_a_batch_changes_no_numbers(draw: Draw) -> None:
    """Of a batch that is longer than the samples that show what is drawn from, too."""
    expected = [[row for batch in epoch for row in batch] for epoch in epochs(Drawn(draw))]
    for size in (1, 19, 20):
        given = epochs(Drawn(draw), batch_size=size)
        assert [[row for batch in epoch for row in batch] for epoch in given] == expected
    if draw in (of_all, sometimes, of_own):
        assert epochs(Whole(draw), batch_size=20) == epochs(Whole(draw), batch_size=20, num_workers=1)


def mixed(samples: list[Tensor]) -> Tensor:
    return default_collate([*samples, torch.tensor([torch.rand(()).item(), float(numpy.random.rand())])])


def test_a_collation_that_draws_has_its_own_numbers_in_every_way() -> None:
    expected = epochs(Opaque(of_torch), collate_fn=mixed)
    for draw in (of_torch, of_none):
        drawn = [batch[-1] for epoch in epochs(Drawn(draw), collate_fn=mixed) for batch in epoch]
        assert drawn == [batch[-1] for epoch in expected for batch in epoch]
    assert epochs(Drawn(of_torch), collate_fn=mixed, num_workers=2) == expected
    numbers = {row[1] for epoch in expected for batch in epoch for row in batch[:-1]}
    assert not numbers & {batch[-1][0] for epoch in expected for batch in epoch}


def test_seeds_phases_and_epochs_have_numbers_of_their_own() -> None:
    runs = [epochs(Drawn(of_all)), epochs(Drawn(of_all), phase="val"), epochs(Drawn(of_all), seed=8)]
    assert len({row[1] for run in runs for epoch in run for batch in epoch for row in batch}) == 6 * SAMPLES


@pytest.mark.parametrize("wrap", [lambda each: each, lambda each: Subset(each, range(SAMPLES))])
def test_a_sample_that_comes_several_times_has_other_numbers_each_time(wrap: Any) -> None:
    sampler = WeightedRandomSampler([1.0] * 2, 50)
    loader = ordered(DataLoader(wrap(Drawn(of_all)), 5, sampler=sampler), 0, "train")
    assert len({row[1] for batch in epoch_batches(loader, 0) for row in batch.tolist()}) == 50


class Whole(Drawn):
    """Reads a batch in one call."""

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        self.calls = len(indices)
        return [self[index] for index in indices]


@pytest.mark.parametrize("draw", [of_all, sometimes, of_none])
def test_a_dataset_that_reads_whole_batches_has_the_same_numbers_everywhere(draw: Draw) -> None:
    dataset = Whole(draw)
    expected = epochs(dataset)
    assert dataset.calls == 2  # of the last batch
    assert epochs(Whole(draw), num_workers=2) == expected
    assert epochs(Whole(draw), skip=3) == [epoch[3:] for epoch in expected]


def test_only_a_batch_that_draws_from_a_generator_for_the_first_time_is_read_twice() -> None:
    dataset = Drawn(lambda dataset, index: READ.append(index) or sometimes(dataset, index))  # type: ignore[func-returns-value]
    READ.clear()
    loader = ordered(DataLoader(dataset, 4), 0, "train")
    list(epoch_batches(loader, 0))
    list(epoch_batches(loader, 1))
    # The first batch shows that it draws from torch, the third that it does from numpy, the last from Python.
    assert list(READ) == [*range(12), *range(8, 20), *range(16, 20), *range(20)]
    READ.clear()
    list(epoch_batches(ordered(DataLoader(dataset, 20), 0, "train"), 0))
    assert list(READ) == [*range(20), *range(20)]  # its last samples show that it draws from Python


READ: list[int] = []  # where no dataset shows that it changes


def test_a_dataset_that_counts_is_never_read_twice() -> None:
    dataset = Drawn(counting)
    loader = ordered(DataLoader(dataset, 4), 0, "train")
    list(epoch_batches(loader, 0))
    assert dataset.reads == SAMPLES


def test_a_sample_that_fails_after_a_draw_fails_with_the_numbers_that_follow_from_its_place() -> None:
    def failing(dataset: Any, index: int) -> float:
        if index == 7:
            raise ValueError(str(torch.rand(()).item()))
        return 0.0

    messages = set()
    for dataset in (Opaque(failing), Drawn(failing), Drawn(failing)):
        with pytest.raises(ValueError, match=r"0\.") as caught:
            list(epoch_batches(ordered(DataLoader(dataset, 4), 0, "train"), 0))
        messages.add(str(caught.value))
    assert len(messages) == 1


@pytest.mark.parametrize("draw", DRAWS, ids=lambda draw: draw.__name__)
def test_reading_leaves_the_generators_of_the_process_as_they_are(draw: Draw) -> None:
    dataset = Drawn(draw)
    loader = ordered(DataLoader(dataset, 3), 0, "train")

    def drawn() -> list[float]:
        own = [of_own(dataset, 0)] if draw is not of_one_made_when_read else []
        return [of_all(dataset, 0), *own, float(numpy.random.randn()), random.gauss(0, 1)]

    def seed() -> None:
        random.seed(1)
        numpy.random.seed(1)
        torch.manual_seed(1)
        dataset.of_torch.manual_seed(1)
        dataset.of_python.seed(1)
        dataset.of_numpy.bit_generator.state = numpy.random.PCG64(1).state

    seed()
    expected = [drawn() for _ in range(7)]
    seed()
    given = [drawn()]
    for _ in epoch_batches(loader, 0):
        given += [drawn()] if len(given) < 7 else []
    assert given == expected
