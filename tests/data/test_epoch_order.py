"""The order of an epoch is drawn as a tensor, or read from the sampler as the epoch goes on."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy
import pytest
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, RandomSampler, Sampler, SequentialSampler, SubsetRandomSampler

from argus_core.data.epoch_order import EpochOrder

SAMPLES = 1000


class Drawing(Sampler[int]):
    """Draws from all libraries, and from a generator of its own, as it goes on."""

    def __init__(self) -> None:
        self.own = random.Random()
        self.read = 0

    def __len__(self) -> int:
        return SAMPLES

    def __iter__(self) -> Iterator[int]:
        for _ in range(SAMPLES):
            self.read += 1
            own = self.own.randrange(SAMPLES) + random.randrange(SAMPLES) + numpy.random.randint(SAMPLES)
            yield (own + int(torch.randint(SAMPLES, ()))) % SAMPLES


def of(sampler: Sampler[int], size: int = 4, drop_last: bool = False, as_tensors: bool = False) -> EpochOrder:
    return EpochOrder(BatchSampler(sampler, size, drop_last), 7, as_tensors)


def test_a_sampler_of_ones_own_is_read_as_the_epoch_goes_on() -> None:
    sampler = Drawing()
    chosen = iter(of(sampler))
    assert sampler.read == 0
    next(chosen)
    assert sampler.read < SAMPLES / 4
    list(chosen)
    assert sampler.read == SAMPLES


def test_what_the_run_draws_meanwhile_changes_no_order_and_the_order_changes_nothing() -> None:
    whole = [batch.indices for batch in of(Drawing())]
    sampler = Drawing()
    random.seed(1)
    sampler.own.seed(2)
    expected = [(random.random(), sampler.own.random()) for _ in range(SAMPLES // 4)]
    random.seed(1)
    sampler.own.seed(2)
    drawn, given = [], []
    for batch in of(sampler):
        given.append(batch.indices)
        drawn.append((random.random(), sampler.own.random()))
    assert given == whole
    assert drawn == expected


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("sampler", [SequentialSampler(range(10)), RandomSampler(range(10)), Drawing()])
def test_a_batch_knows_the_position_of_its_first_sample(sampler: Sampler[int], drop_last: bool) -> None:
    order = of(sampler, 4, drop_last)
    batches = list(order)
    assert len(batches) == len(order)
    position = 0
    for batch in batches:
        assert batch.position == position
        position += len(batch.indices)
    order.skip = 2
    assert list(order) == batches[2:]


def test_orders_of_torch_come_as_tensors_where_they_are_wanted() -> None:
    for sampler in (SequentialSampler(range(10)), RandomSampler(range(10))):
        listed = [batch.indices for batch in of(sampler)]
        tensors = [batch.indices for batch in of(sampler, as_tensors=True)]
        assert all(isinstance(each, Tensor) for each in tensors)
        assert [each.tolist() for each in tensors] == listed
    places = [batch.indices for batch in of(SubsetRandomSampler([5, 7, 9]), as_tensors=True)]
    assert sorted(places[0]) == [5, 7, 9]


@pytest.mark.parametrize("claim", [":", "x:y", "-1:", "9" * 30 + ":aa", "3:", "²:aa", "nothing", ""])
def test_a_fingerprint_of_any_form_is_no_order(claim: str) -> None:
    assert not of(RandomSampler(range(10))).has(0, claim)


class Counting(Sampler[int]):
    """Counts its epochs by itself."""

    epoch = 0

    def __len__(self) -> int:
        return SAMPLES

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        return iter(random.Random(self.epoch).sample(range(SAMPLES), SAMPLES))


def test_an_order_that_the_check_of_its_fingerprint_changes_is_not_that_of_before() -> None:
    order, again = of(Counting()), of(Counting())
    next(iter(order))
    fingerprint = order.fingerprint(0)
    assert fingerprint is not None
    assert not again.has(0, fingerprint)
