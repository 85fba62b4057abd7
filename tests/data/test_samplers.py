"""Samplers by name; the orders of torch's own are drawn as tensors, and are those that the samplers give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import make_model
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import argus_core
from argus_core import ArgusError, BuildError, ParamsError
from argus_core.data.datasets import make_loader
from argus_core.data.samplers import build_sampler, class_balanced, is_of_torch, order_of

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


RARE = TensorDataset(torch.arange(100), torch.tensor([0] * 90 + [1] * 9 + [2]))


@pytest.fixture
def builtins() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        yield


def drawn(sampler: Any, seed: int = 0) -> list[int]:
    return [
        index for (batch, _) in make_loader(RARE, 7, sampler=sampler, seed=seed) for index in batch.tolist()
    ]


@pytest.mark.usefixtures("builtins")
@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("SequentialSampler", list(range(100))),
        (("SubsetRandomSampler", {"indices": [4]}), [4]),
        (("WeightedRandomSampler", {"weights": [0.0] * 99 + [1.0], "num_samples": 3}), [99] * 3),
        (("RandomSampler", {"num_samples": 5}), 5),
    ],
)
def test_torchs_samplers_are_built_by_name(spec: Any, expected: Any) -> None:
    order = drawn(build_sampler(spec, RARE, "[data] sampler"))
    assert order == expected or len(order) == expected


@pytest.mark.usefixtures("builtins")
@pytest.mark.parametrize("parameter", ["dataset", "data_source", "items"])
def test_a_factory_gets_the_dataset_if_its_first_parameter_asks_for_it(parameter: str) -> None:
    namespace: dict[str, Any] = {"seen": []}
    exec(f"def factory({parameter}=(1, 2)): seen.append({parameter}); return range(2)", namespace)
    argus_core.register("sampler", "asking", namespace["factory"])
    build_sampler("asking", RARE, "[data] sampler")
    assert (namespace["seen"] == [RARE]) is (parameter != "items")


def test_a_loader_seeds_the_generator_of_a_sampler_without_one() -> None:
    first, again, other = (drawn(class_balanced(RARE), seed) for seed in (1, 1, 2))
    assert first == again != other


def test_class_balanced_draws_each_class_equally_often() -> None:
    order = torch.tensor(drawn(class_balanced(RARE, num_samples=6000)))
    counts = RARE.tensors[1][order].bincount()
    assert len(order) == 6000
    assert all(1850 < count < 2150 for count in counts.tolist())


def test_class_balanced_has_as_many_samples_as_the_dataset() -> None:
    assert len(class_balanced(RARE)) == 100


def test_class_balanced_takes_no_empty_epoch() -> None:
    with pytest.raises(ParamsError, match="class_balanced': num_samples is 0; give 1 or more"):
        class_balanced(RARE, num_samples=0)


def test_class_balanced_asks_for_targets() -> None:
    with pytest.raises(ArgusError, match="sampler 'class_balanced' needs the class of each sample, and list"):
        class_balanced([1, 2])


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


@pytest.mark.usefixtures("builtins")
@pytest.mark.parametrize(
    ("factory", "error", "message"),
    [
        (
            lambda: 3,
            BuildError,
            r"\[data\] sampler builds a int, which is not a sampler; its factory",
        ),
        (list, ArgusError, r"\[data\] sampler gives no samples; choose other parameters"),
        (
            lambda: BatchSampler([1], 1, False),
            BuildError,
            "builds a BatchSampler, which gives batches; its factory must return a sampler that gives single",
        ),
    ],
)
def test_what_is_no_sampler_of_indices_is_refused(factory: Any, error: Any, message: str) -> None:
    argus_core.register("sampler", "own", factory)
    with pytest.raises(error, match=message):
        build_sampler("own", RARE, "[data] sampler")


@pytest.mark.usefixtures("builtins")
def test_an_iterable_dataset_takes_no_sampler() -> None:
    with pytest.raises(ArgusError, match="is 'RandomSampler', and Stream is an IterableDataset.*; leave"):
        build_sampler("RandomSampler", Stream(), "[data] sampler")


class Rare(TensorDataset):
    """Images with noise of each reading, in a subclass that is not read by one index."""

    def __getitem__(self, index: int) -> Any:
        image, target = super().__getitem__(index)
        return image + torch.randn(4), target


@pytest.mark.usefixtures("net_registry")
def test_a_run_with_class_balanced_resumes_exactly_from_every_update(tmp_path: Path) -> None:
    data = Rare(torch.randn(12, 4), torch.tensor([0] * 8 + [1] * 3 + [2]))

    def loader() -> Any:
        return make_loader(data, 4, sampler=class_balanced(data, num_samples=15))

    def fitted(**options: Any) -> dict[str, Tensor]:
        model = make_model()
        model.fit(loader(), num_epochs=2, seed=3, **options)
        return dict(model.get_nn_module().state_dict())

    torch.manual_seed(0)
    every = ("checkpoint", {"dir_path": str(tmp_path), "every": "1up", "optimizer_state": True})
    whole = fitted(callbacks=[every])
    files = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert len(files) >= 8
    for update in range(1, 8):
        resumed = fitted(resume=files[update - 1])
        assert all(torch.equal(resumed[key], whole[key]) for key in whole), update
