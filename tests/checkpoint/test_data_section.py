"""The section of a checkpoint that describes the model's data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from networks import Net, make_model
from rewritten import rewrite
from small_runs import Points, points, small_config
from torch.utils.data import DataLoader

import argus_core
from argus_core import load_model
from argus_core.checkpoint import data_section as module
from argus_core.checkpoint.data_section import data_of, data_section
from argus_core.checkpoint.records import record_of
from argus_core.cli import main
from argus_core.config import read_config
from argus_core.data.description import DataDescription
from argus_core.errors import ArgusWarning, ParamsError, UnsafeCheckpointError
from argus_core.runs.run import resume, train
from argus_core.storage import read_header

FULL = DataDescription(
    specs={"train": ("points", {"split": "train"}), "batch_size": 8, "split": {"val": 0.2}},
    metrics=("accuracy", ("top_k_accuracy", {"k": 2})),
    seed=2**64 - 1,
    components={"dataset": [record_of("points", None)]},
    samples={"train": 30, "val_clean": 10},
    classes=("a", "b\x1b[31m"),
    feature_names=("x",),
    target_names=("y",),
    units={"x": "cm"},
    sample=[{"shape": [4], "dtype": "float32"}, {"shape": [], "dtype": "int64"}],
)


def named_points(split: str = "train") -> Points:
    dataset = points(split)
    dataset.classes = ["red", "green", "blue"]
    return dataset


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "net", Net)
        argus_core.register("dataset", "points", named_points)
        yield


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = make_model()
    model.data = FULL
    model.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_description_comes_back_as_it_was(saved: Path) -> None:
    assert load_model(saved).data == FULL


def test_model_without_data_has_no_section(tmp_path: Path) -> None:
    make_model().save(tmp_path / "model.safetensors")
    assert "data" not in read_header(tmp_path / "model.safetensors").manifest
    assert load_model(tmp_path / "model.safetensors").data == DataDescription()


def test_fit_describes_the_loaders_of_the_newest_run(saved: Path) -> None:
    model = load_model(saved)
    loaders = {part: DataLoader(named_points(part), batch_size=8) for part in ("train", "val")}
    model.fit(loaders["train"], {"clean": loaders["val"]})
    assert model.data == DataDescription(
        samples={"train": 30, "val_clean": 30}, classes=("red", "green", "blue"), sample=FULL.sample
    )
    model.fit([(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))])
    assert model.data == DataDescription(sample=FULL.sample)


def test_run_keeps_its_specs_and_metrics_and_a_resumed_run_its_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = read_config(small_config(tmp_path), ["num_epochs=1", "checkpoint_every=1up"])
    directory = train(config).directory
    data = load_model(directory.best).data
    assert data.specs == config.data
    assert (data.metrics, data.seed, data.classes) == (("accuracy",), 0, ("red", "green", "blue"))
    assert data.sample == FULL.sample
    assert [(kind, [record["as"] for record in records]) for kind, records in data.components.items()] == [
        ("dataset", ["points"]),
        ("metric", ["accuracy"]),
    ]
    with pytest.warns(ArgusWarning, match="resumes with other data: data.val_batch_size was 8 and is 5"):
        resume(directory.root, ["num_epochs=2", "val_batch_size=5"])
    assert load_model(directory.last).data == replace(data, specs={**data.specs, "val_batch_size": 5})


def test_inspect_shows_it_with_escaped_names(saved: Path) -> None:
    output = CliRunner().invoke(main, ["inspect", str(saved)]).output
    assert 'train: ["points", {"split": "train"}]' in output
    assert "\x1b" not in output
    assert r"b\\x1b[31m" in output
    assert "components:\n    dataset:\n      0: points" in output


def test_newer_section_is_left_out_with_a_warning(saved: Path) -> None:
    rewrite(saved, lambda manifest: manifest.update(data={"schema": 2, "other": 1}))
    with pytest.warns(ArgusWarning, match="describes its data by schema 2, .* pip install --upgrade"):
        model = load_model(saved)
    assert model.data == DataDescription()


def test_older_section_is_migrated(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(old: dict[str, Any]) -> dict[str, Any]:
        return {**old, "seed": old["seed"] - 1}

    monkeypatch.setattr(module, "DATA_SCHEMA", 2)
    monkeypatch.setitem(module.MIGRATIONS, 1, rename)
    assert load_model(saved).data == replace(FULL, seed=2**64 - 2)
    monkeypatch.setitem(module.MIGRATIONS, 1, lambda old: {**old, "seed": old["absent"]})
    with pytest.raises(UnsafeCheckpointError, match="the manifest's 'data' is not as"):
        load_model(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 0}, {"schema": True}, {"schema": None}, {"more": 1}, {"specs": [1]},
        {"specs": {"train": {"$tensor": "nn/out.weight"}}}, {"specs": {"$dict": [[1, 2]]}},
        {"specs": {"a": {"$code": "x"}}}, {"metrics": "accuracy"}, {"metrics": [5]}, {"metrics": [["a", {}]]},
        {"metrics": [{"$tuple": ["a", 1]}]}, {"seed": -1}, {"seed": 1.5},
        {"seed": 2**64},
        {"components": []}, {"components": {"dataset": [{"as": 1}]}}, {"components": {"other": []}},
        {"components": {"dataset": [record_of("a", None)] * 1001}},
        {"samples": {"train": -1}}, {"samples": {"a" * 201: 1}}, {"samples": {"train": True}},
        {"classes": []}, {"classes": "ab"}, {"classes": [1]}, {"classes": ["a" * 201]},
        {"feature_names": ["a"] * (2**15 + 1)}, {"units": {"x": 1}}, {"units": []},
        {"sample": {"shape": [-1], "dtype": "float32"}}, {"sample": 7},
    ],
    ids=str,
)  # fmt: skip
def test_hostile_section_is_refused(change: dict[str, Any]) -> None:
    section = {**data_section(FULL), **change}
    with pytest.raises(UnsafeCheckpointError, match=r"the manifest's 'data' is not as|does not write"):
        data_of({"data": section}, Path("a.safetensors"))


@pytest.mark.parametrize("key", sorted(data_section(FULL).keys() - {"schema"}))
def test_section_without_a_key_is_refused(key: str) -> None:
    section = data_section(FULL)
    del section[key]
    with pytest.raises(UnsafeCheckpointError):
        data_of({"data": section}, Path("a.safetensors"))


def test_attribute_of_another_meaning_is_refused() -> None:
    with pytest.raises(
        ParamsError, match=r"^Model\.data is a dict; it must be a description .* another name$"
    ):
        make_model().data = {"classes": ["a"]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (replace(FULL, classes=("a" * 201,)), r"^model\.data\.classes is not of the form"),
        (replace(FULL, specs={"train": torch.zeros(2)}), r"^model\.data holds a tensor as data\.specs/train"),
        (replace(FULL, specs={"train": print}), r"data\.specs\['train'\] is"),
    ],
)
def test_description_that_a_file_cannot_hold_is_refused_when_saving(
    data: Any, message: str, tmp_path: Path
) -> None:
    model = make_model()
    model.data = data
    with pytest.raises(ParamsError, match=message):
        model.save(tmp_path / "model.safetensors")
    assert not [*tmp_path.iterdir()]
