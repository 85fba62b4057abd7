"""The class of each sample is read from what a dataset declares."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from argus_core import ArgusError
from argus_core.data.targets import classes_of


class Labelled(Dataset[Any]):
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("classes are known without reading samples")


TENSORS = TensorDataset(torch.zeros(4, 2), torch.tensor([7, 3, 3, 7]))


@pytest.mark.parametrize(
    ("dataset", "names", "numbers"),
    [
        (Labelled(targets=[7, 3, 3, 7]), [3, 7], [1, 0, 0, 1]),
        (Labelled(targets=torch.tensor([7, 3, 3, 7])), [3, 7], [1, 0, 0, 1]),
        (Labelled(labels=numpy.array(["b", "a", "b", "b"])), ["a", "b"], [1, 0, 1, 1]),
        (Labelled(targets=[True, False, False, True]), [False, True], [1, 0, 0, 1]),
        (TENSORS, [3, 7], [1, 0, 0, 1]),
        (Subset(TENSORS, [3, 1]), [3, 7], [1, 0]),
        (Subset(Subset(TENSORS, [3, 1, 0]), [1]), [3], [0]),
        (ConcatDataset([TENSORS, Labelled(targets=[1, 1, 1, 1])]), [1, 3, 7], [2, 1, 1, 2, 0, 0, 0, 0]),
    ],
)
def test_classes_are_those_that_the_dataset_declares(dataset: Any, names: Any, numbers: Any) -> None:
    classes = classes_of(dataset, "it")
    assert (classes.names, classes.numbers.tolist()) == (names, numbers)
    assert classes.counts.sum() == len(dataset)


@pytest.mark.parametrize("dataset", [Labelled(), TensorDataset(torch.zeros(4)), [1, 2]])
def test_dataset_without_targets_is_told_to_define_them(dataset: Any) -> None:
    name = type(dataset).__name__
    with pytest.raises(ArgusError, match=f"^it needs .*, and {name} has neither .*; define targets in it"):
        classes_of(dataset, "it")


@pytest.mark.parametrize(
    ("targets", "shape"),
    [
        ([1, 2, 3], r"\(3,\) and dtype int64"),
        (torch.zeros(4), r"\(4,\) and dtype float32"),
        (torch.zeros(4, 2).long(), r"\(4, 2\) and dtype int64"),
    ],
)
def test_targets_that_are_not_one_class_for_each_sample_are_refused(targets: Any, shape: str) -> None:
    with pytest.raises(ArgusError, match=f"targets of Labelled are of shape {shape}; define targets with 4"):
        classes_of(Labelled(targets=targets), "it")
