"""The orders of torch's own samplers are drawn as tensors, and are those that the samplers give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from argus_core.data.samplers import is_of_torch, order_of

ITEMS = range(100)
SAMPLERS: dict[str, Any] = {
    "in order": lambda drawn: SequentialSampler(ITEMS),
    "shuffled": lambda drawn: RandomSampler(ITEMS, generator=drawn),
    "some": lambda drawn: RandomSampler(ITEMS, num_samples=30, generator=drawn),
    "several times": lambda drawn: RandomSampler(ITEMS, num_samples=250, generator=drawn),
    "with replacement": lambda drawn: RandomSampler(ITEMS, True, 75, generator=drawn),
    "a subset": lambda drawn: SubsetRandomSampler(range(100), generator=drawn),
    "weighted": lambda drawn: WeightedRandomSampler([1.0, 3.0] * 50, 60, generator=drawn),
    "weighted once": lambda drawn: WeightedRandomSampler([1.0, 3.0] * 50, 60, False, generator=drawn),
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("own", [True, False])
def test_an_order_is_that_of_the_sampler(name: str, own: bool) -> None:
    def sampler() -> Any:
        torch.manual_seed(3)
        return SAMPLERS[name](torch.Generator().manual_seed(5) if own else None)

    order = order_of(sampler())
    assert (order.tolist() if isinstance(order, Tensor) else list(order)) == list(sampler())


def test_subclasses_are_left_to_themselves() -> None:
    class Own(RandomSampler):
        pass

    class OwnBatches(BatchSampler):
        pass

    usual = RandomSampler(ITEMS)
    assert is_of_torch(BatchSampler(usual, 3, False))
    assert not is_of_torch(BatchSampler(Own(ITEMS), 3, False))
    assert not is_of_torch(OwnBatches(usual, 3, False))
