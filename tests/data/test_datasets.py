"""Datasets by name, and loaders whose order follows from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, TensorDataset

import argus_core
from argus_core.data.datasets import build_dataset, make_loader
from argus_core.errors import ArgusError, BuildError, ParamsError, UnknownNameError


class Stream(IterableDataset[Tensor]):
    def __init__(self, samples: int = 5) -> None:
        self.samples = samples

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.arange(self.samples))


def numbers(count: int = 10) -> TensorDataset:
    return TensorDataset(torch.arange(count))


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    with argus_core.isolated_registry():
        argus_core.register("dataset", "numbers", numbers)
        argus_core.register("dataset", "stream", Stream)
        argus_core.register("dataset", "list", lambda: [1, 2, 3])
        argus_core.register("dataset", "number", lambda: 3)
        yield


def order(loader: Any) -> list[int]:
    return [number for (batch,) in loader for number in batch.tolist()]


def test_dataset_is_built_by_its_spec() -> None:
    assert len(build_dataset(("numbers", {"count": 3}), "[data] train")) == 3  # type: ignore[arg-type]


def test_anything_with_a_length_and_items_is_a_dataset() -> None:
    assert build_dataset("list", "[data] train")[1] == 2


def test_iterable_dataset_is_a_dataset() -> None:
    assert isinstance(build_dataset("stream", "[data] train"), Stream)


def test_something_else_is_no_dataset() -> None:
    with pytest.raises(
        BuildError, match=r"\[data\] train builds a int, which is not a dataset; its factory must"
    ):
        build_dataset("number", "[data] train")


def test_dataset_without_samples_is_refused() -> None:
    with pytest.raises(ArgusError, match=r"\[data\] val has no samples; choose other parameters or data"):
        build_dataset(("numbers", {"count": 0}), "[data] val")


def test_unknown_dataset_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="no dataset named 'nubers'; did you mean 'numbers'"):
        build_dataset("nubers", "[data] train")


def test_parameters_that_a_dataset_does_not_take_are_refused() -> None:
    with pytest.raises(ParamsError, match="dataset 'numbers' has no parameter 'split'"):
        build_dataset(("numbers", {"split": "val"}), "[data] train")


def test_loader_keeps_the_order_unless_it_shuffles() -> None:
    assert order(make_loader(numbers(), 4)) == list(range(10))


def test_shuffled_order_follows_from_the_seed() -> None:
    first, second, other = (order(make_loader(numbers(), 4, seed=seed, shuffle=True)) for seed in (1, 1, 2))
    assert sorted(first) == list(range(10))
    assert first == second != other


def test_each_epoch_has_its_own_order() -> None:
    loader = make_loader(numbers(), 4, shuffle=True)
    assert order(loader) != order(loader)


def test_loader_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    order(make_loader(numbers(), 4, shuffle=True))
    assert torch.equal(before, torch.random.get_rng_state())


def test_last_batch_is_dropped_if_asked() -> None:
    assert order(make_loader(numbers(), 4, drop_last=True)) == list(range(8))


def test_iterable_dataset_keeps_its_order() -> None:
    loader = make_loader(Stream(), 2, shuffle=True)
    assert torch.cat(list(loader)).tolist() == list(range(5))


def test_workers_read_the_same_order() -> None:
    orders = [order(make_loader(numbers(), 4, seed=3, shuffle=True, num_workers=count)) for count in (0, 1)]
    assert orders[0] == orders[1]


def test_memory_is_pinned_only_where_there_is_an_accelerator() -> None:
    assert make_loader(numbers(), 4, pin_memory=True).pin_memory is torch.accelerator.is_available()


@pytest.mark.parametrize(
    ("name", "value", "takes"),
    [
        *(("batch_size", value, r"from 1 to 2\*\*31 - 1") for value in (0, 2**31, 2**63, True, 1.0)),
        *(("num_workers", value, "from 0 to 256") for value in (-1, 257, 2**63, True)),
        *(("seed", value, r"from 0 to 2\*\*64 - 1") for value in (-1, 2**64, True)),
    ],
)
def test_loader_has_the_bounds_of_a_configuration(name: str, value: Any, takes: str) -> None:
    arguments: dict[str, Any] = {"batch_size": 4, name: value}
    with pytest.raises(ParamsError, match=f"make_loader: {name} is .*; give a whole number {takes}"):
        make_loader(TensorDataset(torch.ones(8)), **arguments)
