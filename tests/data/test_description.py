"""The description that a dataset gives of itself, and the form of its samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset

from argus_core.data.description import DataDescription, describe_data
from argus_core.data.sample_form import is_sample_form, sample_form
from argus_core.errors import ArgusWarning


class Flowers(TensorDataset):
    """Four samples that say what they are."""

    classes: Any = ["rose", "lily"]
    feature_names: Any = numpy.array(["length", "width"])
    units: Any = {"length": "cm", "width": "cm"}

    def __init__(self, **said: Any) -> None:
        super().__init__(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
        for name, value in said.items():
            setattr(self, name, value)


class Stream(IterableDataset[int]):
    """A dataset without a length, whose class names cannot be read."""

    @property
    def classes(self) -> list[str]:
        raise OSError("no index")

    def __iter__(self) -> Iterator[int]:
        return iter(())


def described(dataset: Any) -> DataDescription:
    return describe_data({"train": DataLoader(dataset)})


def test_dataset_names_classes_features_and_units() -> None:
    data = describe_data({"train": DataLoader(Flowers()), "val_clean": DataLoader(Subset(Flowers(), [0]))})
    assert data == DataDescription(
        samples={"train": 4, "val_clean": 1},
        classes=("rose", "lily"),
        feature_names=("length", "width"),
        units={"length": "cm", "width": "cm"},
    )


def test_parts_of_a_dataset_are_asked_too() -> None:
    assert described(Subset(Subset(Flowers(), [0, 1]), [1])).classes == ("rose", "lily")
    assert described(ConcatDataset([Flowers(), Flowers()])).classes == ("rose", "lily")
    assert described(ConcatDataset([Flowers(), Flowers(classes=["lily", "rose"])])).classes is None


@pytest.mark.parametrize("classes", [2, [], {"rose": 0}, [None], [["rose"]], True, ["rose", 1.5]])
def test_attribute_of_another_meaning_is_left_out(classes: Any) -> None:
    assert described(Flowers(classes=classes)).classes is None


def test_numbers_are_names_too() -> None:
    assert described(Flowers(classes=torch.arange(2))).classes == ("0", "1")


@pytest.mark.parametrize("units", ["cm", {"length": 1}, ["cm"]])
def test_units_of_another_form_are_left_out(units: Any) -> None:
    assert described(Flowers(units=units)).units == {}


@pytest.mark.parametrize("classes", [["a" * 201], [*map(str, range(2**15 + 1))], ["a" * 100] * 6000])
def test_names_beyond_the_limits_are_left_out_with_a_warning(classes: list[str]) -> None:
    with pytest.warns(ArgusWarning, match=f"^Flowers has {len(classes):,} classes, which checkpoints leave"):
        assert described(Flowers(classes=classes)).classes is None


def test_data_that_say_nothing_have_an_empty_description() -> None:
    assert not describe_data({"train": [torch.zeros(2)]})
    assert not described(Stream())
    assert not DataDescription()
    assert DataDescription(seed=0)


@pytest.mark.parametrize(
    ("batch", "dim", "form"),
    [
        (torch.zeros(8, 3), None, {"shape": [3], "dtype": "float32"}),
        (
            (torch.zeros(8, 1, 4), torch.zeros(8, dtype=torch.int64)),
            None,
            [{"shape": [1, 4], "dtype": "float32"}, {"shape": [], "dtype": "int64"}],
        ),
        ({"ids": torch.zeros(5, 8), "label": torch.zeros(8)}, 1, {"ids": [5], "label": []}),
        ([torch.zeros(5, 8), torch.zeros(8)], [1, 0], [[5], []]),
        ([torch.zeros(5), torch.zeros(8, 2)], [None, 0], [[5], [2]]),
        ([[torch.zeros(3, 5, 5), torch.zeros(3, 4, 4)], ["a", "b"]], ["entries", "entries"],
         [[3, 5, 5], "str"]),
        ([torch.zeros(2, 3), [{"boxes": torch.zeros(7, 4)}, {"boxes": torch.zeros(1, 4)}]], None,
         [[3], {"boxes": [7, 4]}]),
        ([torch.zeros(2, 3), ("a", "b")], None, [[3], "str"]),
        ([torch.zeros(2, 3), 5], None, [[3], "int"]),
        ([torch.zeros(2, 3)], [0, 0], None),
        ([[torch.zeros(2)]] * 1001, None, None),
    ],
)  # fmt: skip
def test_form_of_a_sample_lacks_the_dimension_of_the_samples(batch: Any, dim: Any, form: Any) -> None:
    found = sample_form(batch, dim)
    assert found == form or shapes(found) == form
    assert is_sample_form(found)


def shapes(form: Any) -> Any:
    """Return a form with shapes in place of tensors."""
    if isinstance(form, list):
        return [*map(shapes, form)]
    if isinstance(form, dict):
        return form["shape"] if "shape" in form else {key: shapes(each) for key, each in form.items()}
    return form


@pytest.mark.parametrize(
    "form",
    [
        5, {"shape": [2]}, {"shape": [-1], "dtype": "x"}, {"shape": [2**60], "dtype": "x"}, "a" * 201,
        {"shape": [1] * 65, "dtype": "x"}, [[]] * 1001, {"a" * 201: None},
        [[[[[[[[[[None]]]]]]]]]],
    ],
)  # fmt: skip
def test_hostile_form_is_refused(form: Any) -> None:
    assert not is_sample_form(form)


def test_shape_of_a_sample_is_that_of_its_first_tensor() -> None:
    form = ["int", {"image": {"shape": [1, 8, 8], "dtype": "float32"}}]
    assert DataDescription(sample=form).sample_shape == (1, 8, 8)
    assert DataDescription().sample_shape is None
