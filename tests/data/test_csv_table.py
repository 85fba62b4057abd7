"""The dataset ``csv``: the rows of a table, chosen by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import argus_core
from argus_core.data.csv_table import csv_table
from argus_core.data.description import check_names, describe_data
from argus_core.errors import ArgusError, StateMismatchError

HOUSES = "id,rooms,area,price\nx,3,50.5,100\ny,4,80,150.5\nz,1,20,60\n"
KINDS = "width,kind\n1,round\n2,flat\n3,round\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table(text: str, target: Any, **params: Any) -> Any:
    Path("table.csv").write_text(text, "utf-8")
    return csv_table("table.csv", target, **params)


def columns(dataset: Any) -> tuple[Tensor, Tensor]:
    inputs, target = dataset.tensors
    return inputs, target


def test_numbers_are_a_regression() -> None:
    dataset = table(HOUSES, "price", ignore=["id"], units={"area": "m2"})
    inputs, target = columns(dataset)
    assert inputs.tolist() == [[3.0, 50.5], [4.0, 80.0], [1.0, 20.0]]
    assert target.tolist() == [[100.0], [150.5], [60.0]]
    assert (inputs.dtype, target.dtype) == (torch.float32, torch.float32)
    found = describe_data({"train": DataLoader(dataset)})
    assert (found.feature_names, found.target_names) == (("rooms", "area"), ("price",))
    assert (found.classes, found.units) == (None, {"area": "m2"})


def test_features_have_the_order_in_which_they_are_chosen() -> None:
    dataset = table(HOUSES, ["price", "rooms"], features=["area"])
    assert [each.tolist() for each in dataset[1]] == [[80.0], [150.5, 4.0]]
    assert (dataset.feature_names, dataset.target_names) == (["area"], ["price", "rooms"])


@pytest.mark.parametrize(("text", "params", "known", "numbers"), [
    (KINDS, {}, ["flat", "round"], [1, 0, 1]),
    (KINDS, {"classes": ["round", "oval", "flat"]}, ["round", "oval", "flat"], [0, 2, 0]),
    ("a,kind\n1,10\n2,9\n3,10\n", {"classes": True}, ["9", "10"], [1, 0, 1]),
    ("a,kind\n1,10\n2,b\n3,10\n", {"classes": True}, ["10", "b"], [0, 1, 0]),
])  # fmt: skip
def test_words_are_classes(text: str, params: Any, known: list[str], numbers: list[int]) -> None:
    dataset = table(text, "kind", **params)
    _, target = columns(dataset)
    assert (dataset.classes, target.tolist(), target.dtype) == (known, numbers, torch.int64)


def test_a_byte_order_mark_and_spaces_around_names_do_not_count() -> None:
    assert table("\ufeff a , b\n1,2\n", "a").feature_names == ["b"]


@pytest.mark.parametrize(("text", "target", "params", "message"), [
    ("a,y\n1,2\n,3\n", "y", {}, "dataset 'csv': line 3 of table.csv has no value of 'a'; give a number"),
    ("a,y\n1,2\nnan,3\n", "y", {}, "line 3 of table.csv has 'nan' as 'a'; give a number up to 3.4e+38"),
    ("a,y\n1,2\n1e39,3\n", "y", {}, "line 3 of table.csv has '1e39' as 'a'; give a number up to 3.4e+38"),
    ("a,y\nred,2\n", "y", {}, "line 2 of table.csv has 'red' as 'a'; give a number"),
    ("a,y\n1,2\n1,\n", "y", {}, "line 3 of table.csv has no value of 'y'"),
    ("a,y\n1,b\n1,\n", "y", {}, "line 3 of table.csv has no value of 'y'; give a class"),
    ("a,y\n1,2\n1,2x\n", "y", {}, "line 3 of table.csv has '2x' as 'y', and other lines have numbers"),
    ("a,y\n1,b\n", "y", {"classes": False}, "line 2 of table.csv has 'b' as 'y'; give a number"),
    ("a,y,z\n1,b,2\n", ["y", "z"], {}, "line 2 of table.csv has 'b' as 'y'; give a number"),
    ("a,y\n1,b\n", "y", {"classes": ["c"]}, "has 'b' as 'y', which is not among classes ('c')"),
    ("a,y\n1,2,3\n", "y", {}, "finds 3 columns on line 2 of table.csv, and 2 in the header"),
    ("1,2\n3,4\n", "y", {}, "finds no header in table.csv; begin it with a line of column names"),
    ("", "y", {}, "finds no header in table.csv"),
    ("a,a,y\n1,2,3\n", "y", {}, "finds 2 columns 'a' in table.csv; rename all but one"),
    ("y\n1\n", "y", {}, "finds no column of table.csv besides 'y'; give"),
    ("area,y\n1,2\n", "z", {}, "has target 'z', which is not a column of table.csv; it has 'area', 'y'"),
    ("area,y\n1,2\n", "y", {"features": ["areas"]}, "has features 'areas', which .*; did you mean 'area'?"),
    ("area,y\n1,2\n", "y", {"ignore": ["id"]}, "has ignore 'id', which is not a column"),
    ("a,y\n1,2\n", "y", {"features": ["y"]}, "has 'y' among the features and left out; choose one"),
    ("a,y\n1,2\n", "y", {"features": "a"}, "has features 'a'; give a list of names"),
    ("a,y\n1,2\n", ["y", "y"], {}, "has 'y' twice in target; give it once"),
    ("a,y\n1,2\n", "y", {"units": {"b": "m"}}, "has a unit of 'b', which is neither"),
    ("a,y,z\n1,2,3\n", ["y", "z"], {"classes": True}, "has classes and 2 targets; give one target"),
    ('a,y\n"1,2\n', "y", {}, "cannot use table.csv, which is not a table with commas in UTF-8"),
])  # fmt: skip
def test_what_does_not_fit_is_named_by_line_and_column(
    text: str, target: Any, params: Any, message: str
) -> None:
    plain = ".*".join(map(re.escape, message.split(".*")))
    with pytest.raises(ArgusError, match=plain):
        table(text, target, **params)


def test_a_file_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(ArgusError, match=r"^dataset 'csv' finds no file no.csv \(from .*\); correct path$"):
        csv_table("no.csv", "y")


def test_a_model_that_is_loaded_matches_the_columns_of_another_table_by_name() -> None:
    rows = "".join(f"{a},{b},{'big' if a > b else 'small'}\n" for a in range(6) for b in range(6))
    dataset = table("a,b,size\n" + rows, "size")
    with argus_core.isolated_registry(builtins=True):
        model = linear(2)
        model.fit(DataLoader(dataset, 4), num_epochs=40, seed=0)
        model.save("model.safetensors")
        loaded = argus_core.load_model("model.safetensors", device="cpu")
        Path("new.csv").write_text("id,b,a\nx,0,5\ny,5,0\n", "utf-8")
        found = [*loaded.predict_on("new.csv")]
    assert [(each["row"], each["class"]) for each in found] == [(1, "big"), (2, "small")]


def linear(features: int) -> argus_core.Model:
    argus_core.register("nn_module", "linear", torch.nn.Linear)
    return argus_core.Model(
        {
            "nn_module": ("linear", {"in_features": features, "out_features": 2}),
            "loss": "CrossEntropyLoss",
            "optimizer": ("SGD", {"lr": 0.1}),
            "device": "cpu",
        }
    )


@pytest.mark.parametrize(("train", "val", "target", "message"), [
    ("a,b,y\n1,2,3\n", "b,a,y\n1,2,3\n", "y", "feature 0 of val is 'b', and of the data .* 'a'; give"),
    (KINDS, "width,kind\n1,round\n", "kind", "class 0 of val is 'round', and of the data .* 'flat'"),
])  # fmt: skip
def test_validation_data_of_other_columns_or_classes_are_refused(
    train: str, val: str, target: str, message: str
) -> None:
    datasets = [table(text, target) for text in (train, val)]
    features = datasets[0].tensors[0].shape[1]
    with argus_core.isolated_registry(builtins=True):
        model = linear(features)
        with pytest.raises(StateMismatchError, match=message):
            model.fit(*map(DataLoader, datasets))


@pytest.mark.parametrize(
    ("train", "val"),
    [([0, 1, 2, 3], [0, 1, 2]), (["a", "a", "b"], ["a", "b"]), (["a", "b"], [0, 1]), (None, ["a"])],
    ids=["labels", "of each sample", "names and labels", "none"],
)
def test_classes_that_are_labels_are_not_compared(train: Any, val: Any) -> None:
    loaders = []
    for classes in (train, val):
        dataset = TensorDataset(torch.zeros(2, 1))
        dataset.classes = classes  # type: ignore[attr-defined]
        loaders.append(DataLoader(dataset))
    check_names("val", loaders[1], describe_data({"train": loaders[0]}))
