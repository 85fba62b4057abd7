"""Collate functions by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy
import pytest
import torch
from torch.utils.data import default_collate

import argus_core
from argus_core import BuildError, ParamsError
from argus_core.data.collation import Pad, build_collate

TOKENS = [([1, 2, 3], [4, 5, 6]), ([7], [8])]


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        yield


def test_default_is_torchs_own_so_that_tensors_in_memory_are_read_by_one_index() -> None:
    assert build_collate("default", "[data] collate") is default_collate


def test_list_stacks_nothing() -> None:
    images = [torch.zeros(3, 4), torch.zeros(3, 5)]
    boxes = [{"boxes": torch.zeros(1, 4)}, {"boxes": torch.zeros(2, 4)}]
    collate = build_collate("list", "[data] collate")
    assert collate(list(zip(images, boxes, strict=True))) == (images, boxes)
    assert collate(images) == images


@pytest.mark.parametrize("made", [list, torch.tensor, numpy.array])
def test_pad_fills_inputs_to_the_longest_of_the_batch(made: Any) -> None:
    inputs, targets = Pad(value=9)([(made([1, 2, 3]), 0), (made([4]), 1)])
    assert inputs.tolist() == [[1, 2, 3], [4, 9, 9]]
    assert inputs.dtype is torch.int64
    assert targets.tolist() == [0, 1]


def test_pad_keeps_the_other_dimensions() -> None:
    inputs = Pad()([torch.ones(2, 3), torch.ones(4, 3)])
    assert inputs.shape == (2, 4, 3)
    assert inputs[0].sum(1).tolist() == [3, 3, 0, 0]


def test_pad_fills_targets_by_their_own_value_and_gives_lengths() -> None:
    (inputs, lengths), targets = Pad(target_value=-100, lengths=True)(TOKENS)
    assert inputs.tolist() == [[1, 2, 3], [7, 0, 0]]
    assert lengths.tolist() == [3, 1]
    assert targets.tolist() == [[4, 5, 6], [8, -100, -100]]


def test_pad_reads_mappings() -> None:
    batch = Pad()([{"ids": [1, 2], "name": "a"}, {"ids": [3], "name": "b"}])
    assert batch["ids"].tolist() == [[1, 2], [3, 0]]
    assert batch["name"] == ["a", "b"]


def test_pad_is_torchs_collation_where_lengths_are_equal() -> None:
    samples = [(torch.randn(3), 1.5), (torch.randn(3), 2.5)]
    padded, usual = Pad()(samples), default_collate(samples)
    assert all(map(torch.equal, padded, usual))


def test_pad_asks_for_the_value_of_targets() -> None:
    with pytest.raises(ParamsError, match="has no target_value, and targets have several .*; give target_v"):
        Pad()(TOKENS)


def test_pad_gives_no_lengths_of_numbers() -> None:
    with pytest.raises(
        ParamsError, match="has lengths=True, and an input is of type float, which has none; give"
    ):
        Pad(lengths=True)([(1.0, 0), (2.0, 1)])


def test_component_that_builds_no_function_is_refused() -> None:
    argus_core.register("collate", "number", lambda: 3)
    with pytest.raises(BuildError, match=r"\[data\] collate builds a int, which cannot be called; its"):
        build_collate("number", "[data] collate")
