"""A split depends on samples, shares, seed and classes only, and no part lacks samples or classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils.data import IterableDataset, TensorDataset

from argus_core import ArgusError
from argus_core.data.splits import split_indices


def dataset(*classes: int) -> TensorDataset:
    """Return samples, so many of each class."""
    targets = [number for number, count in enumerate(classes) for _ in range(count)]
    return TensorDataset(torch.arange(len(targets)), torch.tensor(targets))


def split(data: Any, stratify: bool = False, seed: int = 0, **shares: Any) -> dict[str, list[int]]:
    return split_indices(data, shares, seed, stratify, "[data] split")


def test_parts_have_every_sample_once_in_order() -> None:
    parts = split(dataset(100), val=0.2, test=15)
    assert {part: len(indices) for part, indices in parts.items()} == {"val": 20, "test": 15, "train": 65}
    assert sorted(chain(*parts.values())) == list(range(100))
    assert all(indices == sorted(indices) for indices in parts.values())


def test_a_split_is_the_same_in_every_release() -> None:
    assert split(dataset(10), val=0.3, seed=5)["val"] == [2, 5, 9]
    assert split(dataset(6, 4), val=5, seed=5, stratify=True)["val"] == [2, 4, 5, 7, 9]


def test_the_seed_chooses_the_samples() -> None:
    first, again, other = (split(dataset(50), val=0.2, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


@given(
    classes=st.lists(st.integers(12, 60), min_size=1, max_size=5),
    val=st.floats(0.2, 0.4),
    test=st.integers(10, 12),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_stratified_parts_have_each_class_by_its_share(
    classes: list[int], val: float, test: int, seed: int
) -> None:
    data = dataset(*classes)
    assume(round(val * len(data)) + test < 0.8 * len(data) and test * min(classes) > len(data))
    parts = split(data, True, seed, val=val, test=test)
    assert sorted(chain(*parts.values())) == list(range(sum(classes)))
    assert len(parts["val"]) == round(val * sum(classes))
    for part, indices in parts.items():
        found = Counter(data.tensors[1][indices].tolist())
        for number, count in enumerate(classes):
            assert abs(found[number] - count * len(indices) / sum(classes)) < 3, part


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"val": 0.01}, r"gives val no sample: 0.01 of 20 samples is 0.2; give a larger share, or a number"),
        ({"val": 20}, "gives val 20 of 20 samples, which leaves none to train on; give smaller shares"),
        ({"val": 0.5, "test": 12}, "gives val 10 and test 12 of 20 samples, which leaves none to train on"),
    ],
)
def test_empty_part_is_refused(shares: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgusError, match=rf"^\[data\] split {message}"):
        split(dataset(20), **shares)


@pytest.mark.parametrize(
    ("classes", "part", "message"),
    [
        ((98, 2), 0.1, "leaves val without class 1, which has 2 samples; give val a larger share, "),
        ((98, 2), 0.9, "leaves train without class 1, which has 2 samples; give train"),
        ((9, 1), 0.6, "leaves train without class 1, which has 1 sample; "),
    ],
)
def test_part_without_a_class_is_refused_if_stratified(
    classes: tuple[int, ...], part: float, message: str
) -> None:
    with pytest.raises(ArgusError, match=message):
        split(dataset(*classes), True, val=part)
    assert split(dataset(*classes), val=part)["val"]


def test_iterable_dataset_cannot_be_split() -> None:
    class Stream(IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            return iter(range(3))

    with pytest.raises(ArgusError, match="splits Stream, an IterableDataset, whose samples have no indices"):
        split(Stream(), val=0.5)
