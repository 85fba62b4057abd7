"""A checkpoint evaluated on the sets of its run: the run's own digits, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from networks import Net, make_model
from rewritten import rewrite
from small_runs import Points, points, small_config
from torch.utils.data import Dataset

import argus_core
from argus_core import load_model
from argus_core.authors import READS
from argus_core.cli import main
from argus_core.config import read_config
from argus_core.errors import (
    ArgusError,
    ArgusWarning,
    ConfigError,
    MissingPluginError,
    UnknownNameError,
    UnsafeCheckpointError,
)
from argus_core.registry.file_params import OBJECT
from argus_core.runs.evaluation import evaluate
from argus_core.runs.run import Result as RunResult
from argus_core.runs.run import train

BUILT: list[str] = []
CLASSES = ("red", "green", "blue")


class Noisy(Dataset[Any]):
    """Points with noise that is drawn anew whenever a sample is read."""

    classes: Any = CLASSES
    file_params = {"root": READS, "handle": OBJECT}

    def __init__(
        self,
        split: str = "train",
        samples: int = 30,
        root: str = "",
        handle: Any = None,
        classes: Any = CLASSES,
    ) -> None:
        BUILT.append(split)
        self.points = points(split, samples)
        self.classes = classes

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        input, target = self.points[index]
        return input + torch.randn(4), target


@contextmanager
def registered() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "net", Net)
        argus_core.register("dataset", "points", points)
        argus_core.register("dataset", "noisy", Noisy)
        yield


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    with registered():
        BUILT.clear()
        yield tmp_path


def trained(folder: Path, *changes: str) -> RunResult:
    place = f"run_dir={folder / 'run'}"
    return train(read_config(small_config(folder), ["num_epochs=2", place, *changes]))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """Return a run that is done once for the whole file."""
    folder = tmp_path_factory.mktemp("trained")
    with registered():
        return trained(
            folder,
            "data.train=noisy",
            'data.val=["noisy", {split="val"}]',
            'data.test=["noisy", {split="test"}]',
        )


def test_values_have_all_digits_of_the_run_though_samples_are_random(run: RunResult) -> None:
    results = evaluate(run.directory.last)
    assert {**results["val"].metrics} == {name: run.metrics[name] for name in ("val_loss", "val_accuracy")}
    best = evaluate(run.directory.root)
    assert best["val"].metrics["val_accuracy"] == run.best_value
    assert best["test"].metrics == run.test_metrics
    assert {name: result.samples for name, result in best.items()} == {"val": 30, "test": 30}


def test_sets_with_names_and_parts_of_a_split_are_evaluated_as_in_the_run(folder: Path) -> None:
    named = 'data.val={easy = ["noisy", {split="val"}], hard = ["points", {split="test"}]}'
    result = trained(folder, "data.train=noisy", named, "monitor=val_easy_loss", "data.split={test=0.2}")
    results = evaluate(result.directory.last)
    assert [*results] == ["val_easy", "val_hard", "test"]
    values = {**results["val_easy"].metrics, **results["val_hard"].metrics}
    assert values == {name: value for name, value in result.metrics.items() if name.startswith("val_")}
    assert evaluate(result.directory.best)["test"].metrics == result.test_metrics
    assert (results["val_hard"].spec, results["test"].spec) == (("points", {"split": "test"}), None)
    assert results["test"].samples == 6


def test_metrics_of_the_run_keep_their_parameters_and_others_are_added(folder: Path) -> None:
    result = trained(folder, 'metrics=["accuracy", ["top_k_accuracy", {k=2}]]')
    values = evaluate(
        result.directory.last, metrics=["accuracy", ("top_k_accuracy", {"k": 1, "name": "top1"})]
    )
    found = values["val"].metrics
    assert {**found} == {
        **{name: result.metrics[name] for name in ("val_loss", "val_accuracy", "val_top_k_accuracy")},
        "val_top1": result.metrics["val_accuracy"],
    }


def test_classifier_has_a_row_for_each_named_class(run: RunResult) -> None:
    result = evaluate(run.directory.best, sets=["val"])["val"]
    assert [name for name, _ in result.classes] == [*CLASSES]
    right = sum(round(row.recall * row.targets) for _, row in result.classes)
    assert right / 30 == result.metrics["val_accuracy"]


def test_only_the_chosen_sets_are_built_and_loading_builds_none(run: RunResult) -> None:
    load_model(run.directory.best)
    CliRunner().invoke(main, ["inspect", str(run.directory.best)])
    assert BUILT == []
    evaluate(run.directory.best, sets=["test"])
    assert BUILT == ["test"]


def test_changes_replace_the_data_of_the_checkpoint(run: RunResult) -> None:
    results = evaluate(run.directory.best, ["data.val.samples=7", 'test=["points", {split="test"}]'])
    assert {name: result.samples for name, result in results.items()} == {"val": 7, "test": 30}
    with pytest.raises(
        ConfigError, match=r"--set num_epochs=3: the key is in \[fit\]; give keys of \[data\]"
    ):
        evaluate(run.directory.best, ["num_epochs=3"])


def test_unknown_set_is_told_with_near_names(run: RunResult) -> None:
    with pytest.raises(ConfigError, match=r"there is no set 'vall'; did you mean 'val'\?"):
        evaluate(run.directory.best, sets=["vall"])
    with pytest.raises(ConfigError, match="there is no set 'other'; choose val or test"):
        evaluate(run.directory.best, sets=["other"])


def test_checkpoint_without_data_takes_those_of_the_caller(folder: Path) -> None:
    make_model().save("plain.safetensors")
    with pytest.raises(
        ConfigError, match="names neither validation nor test data; choose some: --set data.val="
    ):
        evaluate(Path("plain.safetensors"))
    result = evaluate(Path("plain.safetensors"), ["data.val=points"], metrics=["accuracy"])["val"]
    assert [*result.metrics] == ["val_loss", "val_accuracy"]
    assert [name for name, _ in result.classes] == ["0", "1", "2"]


def test_other_classes_than_in_training_are_refused(run: RunResult) -> None:
    other = 'val=["noisy", {split="val", classes=["green", "red", "blue"]}]'
    with pytest.raises(
        ArgusError, match="class 0 of val is 'green', and of the data .* was trained on 'red'; "
    ):
        evaluate(run.directory.best, [other])
    fewer = other.replace('"green", "red", "blue"', '"red", "green"')
    with pytest.raises(
        ArgusError, match="val has 2 classes, and the data .* was trained on had 3; give data with the same"
    ):
        evaluate(run.directory.best, [fewer])


def test_wrong_number_of_names_is_a_warning_and_the_table_has_numbers(folder: Path) -> None:
    two = 'classes=["red", "green"]'
    result = trained(
        folder, f'data.train=["noisy", {{{two}}}]', f'data.val=["noisy", {{split="val", {two}}}]'
    )
    with pytest.warns(ArgusWarning, match="the model predicts 3 classes, and the data .* have 2 names"):
        rows = evaluate(result.directory.best)["val"].classes
    assert [name for name, _ in rows] == ["0", "1", "2"]


def test_regression_has_no_table(folder: Path) -> None:
    argus_core.register("dataset", "lines", lambda: Points(torch.zeros(8, 4), torch.zeros(8, 3)))
    data = ("data.train=lines", "data.val=lines", "loss=MSELoss", 'metrics=["mse"]', "monitor=val_mse")
    result = trained(folder, *data)
    found = evaluate(result.directory.last)["val"]
    assert (found.classes, found.metrics["val_mse"]) == ([], result.metrics["val_mse"])


def test_missing_dataset_names_its_package(run: RunResult) -> None:
    def change(manifest: dict[str, Any]) -> None:
        for record in manifest["data"]["components"]["dataset"]:
            record.update(name="flowers/noisy", provider="flowers", version="1.2", **{"as": "flowers/noisy"})
        manifest["data"]["specs"]["val"] = {"$tuple": ["flowers/noisy", {}]}

    path = rewrite(run.directory.best, change, Path("changed.safetensors"))
    with pytest.raises(MissingPluginError, match=r"dataset 'flowers/noisy' .*pip install 'flowers==1\.2'"):
        evaluate(path, sets=["val"])
    assert [*evaluate(path, ["data.val=points"], sets=["val"])] == ["val"]


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        ("val", 5, ConfigError, r"\[data\] val is 5; give a name"),
        (
            "val",
            {"$tuple": ["noisy", {"handle": "x"}]},
            UnsafeCheckpointError,
            "handle of dataset 'noisy' is 'x'; a checkp",
        ),
        ("val", "os.system", UnknownNameError, "no dataset named 'os.system'"),
        ("val_batch_size", 0, ConfigError, r"\[data\] val_batch_size is 0; give"),
        ("num_workers", 10**6, ConfigError, r"\[data\] num_workers is 1000000; give"),
        ("later", 1, ConfigError, r"\[data\] has 'later'"),
        ("collate", {"$tuple": [1, 2]}, ConfigError, r"\[data\] collate is"),
    ],
)
def test_hostile_specs_are_refused(
    run: RunResult, key: str, value: Any, error: type[Exception], message: str
) -> None:
    path = rewrite(
        run.directory.best,
        lambda manifest: manifest["data"]["specs"].update({key: value}),
        Path("x.safetensors"),
    )
    with pytest.raises(error, match=message):
        evaluate(path)


@pytest.mark.parametrize("metric", ["absent", "os.system", {"$tuple": ["absent", {}]}])
def test_hostile_metrics_are_refused(run: RunResult, metric: Any) -> None:
    path = rewrite(
        run.directory.best, lambda manifest: manifest["data"].update(metrics=[metric]), Path("x.safetensors")
    )
    with pytest.raises(UnknownNameError, match="no metric named"):
        evaluate(path)


def test_path_of_the_data_is_taken_as_from_a_configuration(folder: Path) -> None:
    result = trained(folder, "data.train=noisy", 'data.val=["noisy", {split="val", root="photos"}]')
    assert evaluate(result.directory.best)["val"].spec == ("noisy", {"split": "val", "root": "photos"})


def test_path_of_the_data_of_a_checkpoint_in_no_run_is_the_callers(folder: Path) -> None:
    result = trained(folder, "data.train=noisy", 'data.val=["noisy", {split="val", root="photos"}]')
    shutil.copy(result.directory.best, "mailed.safetensors")
    with pytest.raises(
        UnsafeCheckpointError,
        match=r"root of dataset 'noisy' is 'photos'; a checkpoint must not set it, since it names files to "
        r"read; if you trust it, pass --set data\.SPLIT\.root=\.\.\.",
    ):
        evaluate(Path("mailed.safetensors"))
    values = evaluate(Path("mailed.safetensors"), ["data.val.root=mine"])["val"]
    assert values.spec == ("noisy", {"split": "val", "root": "mine"})


def argus(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, words)])


def test_command_prints_values_and_a_table_for_each_set(run: RunResult) -> None:
    lines = argus("test", run.directory.root).output.splitlines()
    assert lines[0] == 'val: ["noisy", {"split": "val"}] (30 samples)'
    assert f"val_accuracy: {run.best_value!r}" in lines
    assert "test_loss: " + repr(run.test_metrics["test_loss"]) in lines
    assert [line.split() for line in lines if line.startswith("class ")] == [
        ["class", "targets", "precision", "recall", "f1"]
    ] * 2


def test_command_writes_json_and_csv_and_keeps_a_file_that_is_there(run: RunResult) -> None:
    done = argus("test", run.directory.best, "--json", "--csv", "results.csv", "--on", "val")
    record = json.loads(done.stdout)
    expected = evaluate(run.directory.best, sets=["val"])["val"]
    assert record["sets"]["val"]["metrics"] == expected.metrics
    assert [row["class"] for row in record["sets"]["val"]["classes"]] == [*CLASSES]
    rows = [*csv.reader(Path("results.csv").read_text().splitlines())]
    assert rows[0] == ["set", "class", "name", "value"]
    assert ["val", "", "val_accuracy", repr(expected.metrics["val_accuracy"])] in rows
    assert ["val", "red", "targets", str(expected.classes[0][1].targets)] in rows
    again = argus("test", run.directory.best, "--csv", "results.csv")
    assert again.exit_code == 1
    assert "results.csv exists already; choose another output file, or add --overwrite" in again.output
    assert argus("test", run.directory.best, "--csv", "results.csv", "--overwrite").exit_code == 0
    own = argus("test", run.directory.best, "--csv", run.directory.best, "--overwrite")
    assert own.exit_code == 1
    assert load_model(run.directory.best).data.classes == CLASSES


def test_command_escapes_names_of_classes(run: RunResult) -> None:
    model = load_model(run.directory.best)
    model.data = replace(model.data, classes=("\x1b[31m", "g", "b"))
    model.save("odd.safetensors")
    output = argus("test", "odd.safetensors", "--set", 'val=["points", {split="val"}]', "--on", "val").output
    assert "\x1b" not in output
    assert r"\x1b[31m" in output
