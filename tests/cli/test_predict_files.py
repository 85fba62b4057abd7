"""``argus predict`` on files that readers take."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from predicting import classifier, write_rows

import argus_core
from argus_core import cli


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    with argus_core.isolated_registry(builtins=True):
        classifier().save("model.safetensors")
        write_rows(Path("new.csv"), 5)
        yield tmp_path


def argus(*args: str) -> Result:
    return CliRunner().invoke(cli.main, ["predict", "model.safetensors", *args], catch_exceptions=False)


def table(path: str = "predictions.csv") -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file)]


def test_table_of_a_model_that_knows_its_data_is_written_beside() -> None:
    result = argus("new.csv")
    assert (result.exit_code, result.stdout) == (0, "predictions: predictions.csv (5 samples)\n")
    expected = [*argus_core.load_model("model.safetensors").predict_on("new.csv")]
    assert [(row["row"], row["class"]) for row in table()] == [
        (str(each["row"]), each["class"]) for each in expected
    ]
    assert sorted(os.listdir()) == ["model.safetensors", "new.csv", "predictions.csv"]


def test_options_of_the_table() -> None:
    argus(
        "new.csv",
        "--top",
        "2",
        "--all-classes",
        "--output",
        "out.csv",
        "--num-workers",
        "1",
        "--batch-size",
        "2",
    )
    assert [*table("out.csv")[0]][2:] == [
        *("class", "probability", "class_2", "probability_2"),
        *(f"probability {name}" for name in ("cat", "dog", "emu")),
    ]


def test_skipped_samples_are_told_and_listed() -> None:
    lines = ["a,b,c,d", *["1,2,x,4"] * 7, "1,2,3,4"]
    Path("new.csv").write_text("\n".join(lines), "utf-8")
    result = argus("new.csv")
    assert result.exit_code == 0
    told = result.stderr.splitlines()
    assert told[0] == "skipped: new.csv,1,line 2 has 'x' as 'c'; give a number"
    assert told[5:] == ["skipped: 2 more", "skipped: 7 samples, listed in predictions.skipped.csv"]
    assert [row["row"] for row in table("predictions.skipped.csv")] == [str(row) for row in range(1, 8)]
    assert [row["row"] for row in table()] == ["8"]


def test_ids_of_rows_come_from_a_column_of_the_reader() -> None:
    Path("new.csv").write_text("name,a,b,c,d\nx7,1,2,3,4\n", "utf-8")
    argus("new.csv", "--reader", "csv", "--param", "id=name")
    assert [row["row"] for row in table()] == ["x7"]


def test_parameters_of_the_preparation_can_be_changed() -> None:
    argus("new.csv", "--set", "data.val.scale=2.0")
    model = argus_core.load_model("model.safetensors")
    expected = model.predict(2.0 * write_rows(Path("same.csv"), 5)).max(1).values
    assert np.allclose([float(row["probability"]) for row in table()], expected)


def test_folders_and_patterns_are_expanded() -> None:
    os.mkdir("more")
    for name in ("b", "a"):
        write_rows(Path(f"more/{name}.csv"), 2)
    Path("more/readme.md").touch()
    result = argus("more", "n*.csv")
    assert result.stderr == "left out: 1 file with nothing for this model\n"
    assert [row["file"] for row in table()] == ["more/a.csv"] * 2 + ["more/b.csv"] * 2 + ["new.csv"] * 5


def test_pattern_leaves_out_what_the_model_does_not_take() -> None:
    Path("new.txt").write_text("some text\n")
    Path("new.unknown").touch()
    result = argus("new.*")
    assert result.stderr == "left out: 2 files with nothing for this model\n"
    assert [row["file"] for row in table()] == ["new.csv"] * 5


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["*.jpeg"], "the pattern '*.jpeg' fits no file"),
        (["new.csv", "nowhere.csv"], "no data file 'nowhere.csv'; check the path"),
        (["photo.jpg"], "no reader takes '.jpg'; pip install argus-torchvision"),
        (["new.csv", "--reader", "cvs"], "no reader named 'cvs'; did you mean 'csv'"),
        (
            ["new.csv", "--output", "out.txt"],
            "cannot write a table to 'out.txt'; give a name that ends in one of",
        ),
        (["new.csv", "--output", "no/out.csv"], "there is no folder no; make it first"),
        (["nowhere/"], "no data file 'nowhere'; check the path"),
        (["new.csv", "--output", "model.safetensors"], "cannot write a table to 'model.safetensors'"),
        (
            ["new.csv", "--output", "new.csv", "--overwrite"],
            "new.csv is also the input; choose another output file",
        ),
    ],
)
def test_what_is_wrong_is_told_in_one_line(args: list[str], message: str) -> None:
    Path("photo.jpg").touch()
    result = argus(*args)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
    assert not Path("predictions.csv").exists()


def test_usage_that_makes_no_sense_is_refused() -> None:
    result = argus("new.csv", "--param", "id=a")
    assert result.exit_code == 2
    assert "choose the reader that takes it with --reader" in result.stderr
    result = argus("new.csv", "new.csv", "--metric", "accuracy")
    assert result.exit_code == 2
    assert "--metric is for a dataset, or for one file of arrays" in result.stderr


def test_table_that_exists_is_replaced_only_if_asked() -> None:
    argus("new.csv")
    result = argus("new.csv")
    assert (result.exit_code, "predictions.csv exists already" in result.stderr) == (1, True)
    assert argus("new.csv", "--overwrite").exit_code == 0


def test_interrupted_prediction_says_how_to_go_on_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    argus("new.csv", "--batch-size", "2", "--output", "whole.csv")
    with monkeypatch.context() as patched:
        patched.setattr("argus_core.cli.predict_files._Watch.__call__", _interrupt)
        result = CliRunner().invoke(
            cli.main, ["predict", "model.safetensors", "new.csv", "--batch-size", "2"], catch_exceptions=False
        )
    assert result.exit_code == 130
    assert "predictions.csv.partial has the rows so far; continue with --resume" in result.stderr
    assert argus("new.csv", "--batch-size", "2", "--resume").exit_code == 0
    assert Path("predictions.csv").read_bytes() == Path("whole.csv").read_bytes()


def _interrupt(*args: object) -> None:
    raise KeyboardInterrupt


def test_resumption_of_a_complete_table_is_refused() -> None:
    argus("new.csv")
    before = Path("predictions.csv").read_bytes()
    result = argus("new.csv", "--resume")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: predictions.csv exists, and no prediction of it was interrupted; add --overwrite to predict "
        "again, or choose another output file\n"
    )
    assert Path("predictions.csv").read_bytes() == before


def test_image_in_a_format_that_no_reader_takes_says_what_to_do() -> None:
    Path("photo.gif").write_bytes(b"GIF89a")
    result = argus("photo.gif")
    assert result.exit_code == 1
    assert "no reader takes '.gif'; convert the image to .png or .jpg" in result.stderr


def test_dataset_and_file_of_arrays_give_arrays_as_before() -> None:
    np.save("new.npy", np.zeros((3, 4), dtype="float32"))
    assert argus("new.npy").stdout == "predictions: predictions.npz (3 samples)\n"
    with np.load("predictions.npz") as written:
        assert (written.files, written["prediction"].shape) == (["prediction"], (3, 3))
    assert argus("new.npy", "--output", "table.csv").exit_code == 0  # the model knows its classes
    assert [*table("table.csv")[0]] == ["file", "row", "class", "probability"]


def test_run_directory_stands_for_its_best_checkpoint() -> None:
    checkpoints = Path("run/checkpoints")
    checkpoints.mkdir(parents=True)
    Path("model.safetensors").rename(checkpoints / "best.safetensors")
    Path("run/config.toml").write_text("")
    Path("run/versions.json").write_text('{"argus-torch": "0.1.0"}')
    result = CliRunner().invoke(cli.main, ["predict", "run", "new.csv"], catch_exceptions=False)
    assert (result.exit_code, result.output.count("5 samples")) == (0, 1), result.output
