"""Predictions on files in Python: order, preparation, tables, resumption, and what cannot be read."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import time
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from predicting import CLASSES, FEATURES, classifier, write_rows
from processes import running

import argus_core
from argus_core import ArgusError, MissingPluginError
from argus_core.data.readers import AbstractReader
from argus_core.prediction import partial_file


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    with argus_core.isolated_registry(builtins=True):
        yield tmp_path


def table(path: str = "out.csv") -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file)]


def test_rows_get_the_class_and_its_probability_after_the_preparation_of_validation() -> None:
    model, rows = classifier(), write_rows(Path("new.csv"), 10)
    expected = model.predict(0.5 * rows)
    found = [*model.predict_on("new.csv", batch_size=4)]
    assert [each["row"] for each in found] == [*range(1, 11)]
    assert {each["file"] for each in found} == {"new.csv"}
    assert [each["class"] for each in found] == [CLASSES[each] for each in expected.argmax(1)]
    assert np.allclose([each["probability"] for each in found], expected.max(1).values)


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_order_is_that_of_files_and_rows_with_any_number_of_workers(num_workers: int) -> None:
    model = classifier()
    for name, count in (("a", 7), ("b", 1), ("c", 12)):
        write_rows(Path(f"{name}.csv"), count, seed=count)
    alone = [*model.predict_on("*.csv", batch_size=3)]
    found = [*model.predict_on("*.csv", batch_size=3, num_workers=num_workers)]
    assert found == alone
    assert [(each["file"], each["row"]) for each in found] == [
        (f"{name}.csv", row) for name, count in (("a", 7), ("b", 1), ("c", 12)) for row in range(1, count + 1)
    ]


def test_columns_are_matched_by_name() -> None:
    model = classifier()
    write_rows(Path("in_order.csv"), 6)
    write_rows(Path("other.csv"), 6, ("c", "a", "d", "b"))
    one, other = ([*model.predict_on(f"{name}.csv")] for name in ("in_order", "other"))
    assert [each["probability"] for each in one] == [each["probability"] for each in other]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a,b,d,target\n1,2,3,0\n", "it has no column 'c', which the model was trained with; add it"),
        ("a,b,C,d\n1,2,3,4\n", "it has no column 'c', .*; did you mean 'C'"),
        ("a,b,c,c,d\n1,2,3,4,5\n", "it has 2 columns 'c'; rename all but one"),
        ("1,2,3\n", r"it has no header, and 3 columns for 4 features; give it a header with 'a', 'b'"),
        ("", "it is empty"),
        ("a,b,c,d\n1,2,x,4\n", "line 2 has 'x' as 'c'; give a number"),
        ("a,b,c,d\n1,2,,4\n", "line 2 has no value of 'c'; give a number"),
        ("a,b,c,d\n1,2,nan,4\n", "'c' is nan; give a number"),
        ("a,b,c,d\n1,2,3\n", "line 2 has 3 columns, and the first line 4; correct it"),
        ("a,b,c,d\n", "the files hold no samples"),
    ],
)
def test_rows_that_cannot_be_used_are_told_in_one_sentence(content: str, reason: str) -> None:
    Path("new.csv").write_text(content, "utf-8")
    with pytest.raises(ArgusError, match=reason) as caught:
        classifier().predict_on("new.csv").write("out.csv")
    assert "\n" not in str(caught.value)
    assert os.listdir() == ["new.csv"]


def test_what_cannot_be_read_is_skipped_counted_and_listed_and_the_rest_is_done() -> None:
    model = classifier()
    rows = write_rows(Path("good.csv"), 5)
    Path("none.xyz").touch()
    lines = Path("good.csv").read_text("utf-8").splitlines()
    Path("holes.csv").write_text(
        "\n".join([*lines[:2], "nan,1,2,3", *lines[2:4], "1,2", *lines[4:]]), "utf-8"
    )
    Path("odd.csv").write_text("a,b\n1,2\n", "utf-8")
    np.save("wrong.npy", np.zeros((3, 4), dtype="float32"))
    Path("wrong.npy").write_bytes(Path("wrong.npy").read_bytes()[:-20])
    predictions = model.predict_on(
        ["holes.csv", "odd.csv", "wrong.npy", "none.xyz", "good.csv"], batch_size=3
    )
    written = predictions.write("out.csv")
    assert (written.rows, written.skipped, written.skipped_path) == (10, 5, Path("out.skipped.csv"))
    assert [(each["file"], each["row"]) for each in table()] == [
        *(("holes.csv", str(row)) for row in (1, 3, 4, 6, 7)),
        *(("good.csv", str(row)) for row in range(1, 6)),
    ]
    skipped = [(each["file"], each["row"]) for each in table("out.skipped.csv")]
    assert skipped == [
        ("holes.csv", "2"),
        ("holes.csv", "5"),
        ("odd.csv", ""),
        ("wrong.npy", ""),
        ("none.xyz", ""),
    ]
    expected = model.predict(0.5 * rows).max(1).values
    assert np.allclose([float(each["probability"]) for each in table()][5:], expected)


@pytest.mark.parametrize("suffix", ["jsonl", "npz", "parquet"])
def test_formats_hold_the_same_rows(suffix: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    model = classifier()
    write_rows(Path("new.csv"), 10)
    Path("new.csv").write_text(Path("new.csv").read_text("utf-8") + "1,,2,3\n", "utf-8")
    predictions = model.predict_on("new.csv", batch_size=4, top=2, all_classes=True)
    assert predictions.write("out.csv").rows == predictions.write(f"other.{suffix}").rows == 10
    names = ["file", "row", "class", "probability", "class_2", "probability_2"]
    names += [f"probability {name}" for name in CLASSES]
    assert [*table()[0]] == names
    found = _rows(f"other.{suffix}", names)
    for row, other in zip(table(), found, strict=True):
        assert {name: str(value) for name, value in other.items()} == row


def _rows(path: str, names: list[str]) -> list[dict[str, Any]]:
    if path.endswith(".jsonl"):
        lines = Path(path).read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines]
    if path.endswith(".npz"):
        with np.load(path) as arrays:
            assert arrays.files == [*names, "prediction"]
            assert arrays["prediction"].shape == (10, 3)
            columns = [arrays[name] for name in names]
    else:
        import pyarrow.parquet

        read = pyarrow.parquet.read_table(path)
        assert read.column_names == names
        columns = [
            np.array(read[name].to_pylist(), dtype=read[name].type.to_pandas_dtype()) for name in names
        ]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def test_regression_has_the_names_of_its_targets() -> None:
    model = classifier(classes=None, target_names=("height", "weight", "age"))
    write_rows(Path("new.csv"), 3)
    model.predict_on("new.csv").write("out.csv")
    assert [*table()[0]] == ["file", "row", "height", "weight", "age"]


def test_classifier_with_other_classes_than_it_knows_is_told_and_numbered() -> None:
    model = classifier(classes=("cat", "dog"))
    write_rows(Path("new.csv"), 3)
    with pytest.warns(argus_core.ArgusWarning, match="predicts 3 values, and its data have 2 classes"):
        model.predict_on("new.csv").write("out.csv")
    assert {each["class"] for each in table()} <= {"0", "1", "2"}


def test_scores_that_are_no_probabilities_are_not_called_so() -> None:
    model = classifier()
    model.prediction_transform = lambda prediction: prediction
    write_rows(Path("new.csv"), 3)
    assert [*next(iter(model.predict_on("new.csv")))] == ["file", "row", "class", "score"]


def test_dataset_whose_plugin_is_gone_is_named_with_what_to_install() -> None:
    record = {
        "as": "gone",
        "name": "argus-gone/gone",
        "entry_point": "a:b",
        "provider": "argus-gone",
        "version": "1.2",
    }
    model = classifier(specs={"val": "gone"}, components={"dataset": [record]})
    write_rows(Path("new.csv"), 3)
    with pytest.raises(MissingPluginError, match="argus-gone"):
        model.predict_on("new.csv")
    np.save("new.npy", np.zeros((2, 4), dtype="float32"))  # which needs no preparation
    assert len([*model.predict_on("new.npy")]) == 2


def test_image_that_the_model_cannot_prepare_is_refused_with_what_to_do() -> None:
    class Pictures(AbstractReader):
        suffixes, sort, is_single = (".pic",), "image", True

        def samples(self, path: str) -> Any:
            yield "", lambda: torch.ones(4)

    argus_core.register("reader", "pictures", Pictures)
    Path("a.pic").touch()
    with pytest.raises(
        ArgusError, match="dataset 'described' does not say how to make an input of an image; leave"
    ):
        classifier().predict_on("a.pic")
    (found,) = classifier().predict_on("a.pic", prepare={"image": lambda image: 2 * image})
    assert found["file"] == "a.pic"
    assert "row" not in found


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ("nowhere.csv", "no data file 'nowhere.csv'; check the path"),
        ("*.jpg", r"the pattern '\*.jpg' fits no file \(from '.*'\); correct it"),
        ("empty", "folder 'empty' holds no file to predict on; give another"),
        ("others", r"folder 'others' holds no file to predict on \(1 of other sorts\); give another"),
        ([], "there are no files to predict on; give files, folders or patterns"),
        ("s3://bucket/a.csv", "'s3://bucket/a.csv' is an address"),
    ],
)
def test_nothing_to_predict_on_is_one_sentence(paths: Any, message: str) -> None:
    os.makedirs("empty/.hidden")
    Path("empty/.hidden/a.csv").touch()
    os.mkdir("others")
    Path("others/notes.txt").touch()
    with pytest.raises(ArgusError, match=message):
        classifier().predict_on(paths)


def test_folder_is_read_in_order_and_a_file_that_is_given_twice_once() -> None:
    for name in ("b/2.csv", "b/10.csv", "a.csv", "b/c/1.csv"):
        path = Path("new", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_rows(path, 1)
    Path("new/b/.DS_Store").touch()
    os.symlink(Path("new").absolute(), "new/b/again")
    found = [each["file"] for each in classifier().predict_on(["new/b/2.csv", "new"])]
    assert found == ["new/b/2.csv", "new/a.csv", "new/b/10.csv", "new/b/c/1.csv"]


def test_shape_that_the_network_does_not_take_is_one_sentence() -> None:
    model = classifier(sample=[{"shape": [4], "dtype": "float32"}, {"shape": [], "dtype": "int64"}])
    np.save("new.npy", np.zeros((2, 5), dtype="float32"))
    with pytest.raises(ArgusError, match=r"takes no input .*, as of new.npy, since .* of shape \(4,\)"):
        model.predict_on("new.npy").write("out.csv")


def test_nothing_is_replaced_unless_asked() -> None:
    model = classifier()
    write_rows(Path("new.csv"), 3)
    Path("out.csv").write_text("mine", "utf-8")
    with pytest.raises(ArgusError, match="out.csv exists already"):
        model.predict_on("new.csv").write("out.csv")
    assert Path("out.csv").read_text("utf-8") == "mine"
    model.predict_on("new.csv").write("out.csv", overwrite=True)
    assert len(table()) == 3


# Going on.


class Interrupted(Exception):
    """Stands for an interruption."""


def interrupted(model: Any, output: str, batches: int, **options: Any) -> None:
    """Begin to write a table, and stop after some batches."""
    calls = 0

    def watch(done: int, skipped: int) -> None:
        nonlocal calls
        calls += 1
        if calls == batches:
            raise Interrupted

    with pytest.raises(Interrupted):
        model.predict_on("new.csv", batch_size=3, **options).write(output, watch=watch)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "npz"])
@pytest.mark.parametrize("batches", [1, 2, 7])
def test_resumed_table_is_that_of_one_call(suffix: str, batches: int) -> None:
    model = classifier()
    write_rows(Path("new.csv"), 20)
    Path("new.csv").write_text(Path("new.csv").read_text("utf-8").replace(".5", "x"), "utf-8")
    model.predict_on("new.csv", batch_size=3).write(f"whole.{suffix}")
    interrupted(model, f"out.{suffix}", batches)
    assert Path(f"out.{suffix}.partial").exists()
    with Path(f"out.{suffix}.partial").open("ab") as file:
        file.write(b"half a ro")  # of a process that was killed as it wrote
    with pytest.raises(
        ArgusError, match="was interrupted; add --resume to continue, or --overwrite to begin again"
    ):
        model.predict_on("new.csv", batch_size=3).write(f"out.{suffix}")
    written = model.predict_on("new.csv", batch_size=3, num_workers=2).write(f"out.{suffix}", resume=True)
    assert Path(f"out.{suffix}").read_bytes() == Path(f"whole.{suffix}").read_bytes()
    assert Path("out.skipped.csv").read_bytes() == Path("whole.skipped.csv").read_bytes()
    assert written.skipped > 0
    assert not [*Path().glob("*.partial*")]


def test_prediction_with_other_files_or_settings_is_not_resumed() -> None:
    model = classifier()
    write_rows(Path("new.csv"), 20)
    interrupted(model, "out.csv", 2)
    for change, options in (("batch_size", {"batch_size": 4}), ("top", {"batch_size": 3, "top": 2})):
        with pytest.raises(ArgusError, match=f"was begun with other {change}; give the same to resume it"):
            model.predict_on("new.csv", **options).write("out.csv", resume=True)
    with torch.no_grad():
        next(model.nn_module.parameters()).add_(1)
    write_rows(Path("new.csv"), 21)
    with pytest.raises(ArgusError, match="was begun with other files and weights; give"):
        model.predict_on("new.csv", batch_size=3).write("out.csv", resume=True)
    assert Path("out.csv.partial").exists()
    model.predict_on("new.csv").write("out.csv", overwrite=True)
    assert len(table()) == 21


def test_resumption_of_nothing_begins() -> None:
    write_rows(Path("new.csv"), 4)
    assert classifier().predict_on("new.csv").write("out.csv", resume=True).rows == 4


def test_full_disk_keeps_the_rows_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier()
    write_rows(Path("new.csv"), 20)
    model.predict_on("new.csv", batch_size=3).write("whole.csv")
    monkeypatch.setattr(partial_file, "FileIO", Full)
    with pytest.raises(
        ArgusError,
        match=r"cannot write out.csv.partial: No space left on device; its [0-9]+ rows so far are kept; "
        r"free some space .*, and continue with --resume",
    ):
        model.predict_on("new.csv", batch_size=3).write("out.csv")
    monkeypatch.setattr(partial_file, "FileIO", FileIO)
    model.predict_on("new.csv", batch_size=3).write("out.csv", resume=True)
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()


class Full(FileIO):
    """A file on a disk that takes 300 bytes more."""

    def write(self, data: Any) -> int:
        left = 300 - os.fstat(self.fileno()).st_size
        if str(self.name).endswith(".partial") and left < len(data):
            super().write(bytes(data)[: max(left, 0)])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data) or 0


def _write(folder: str, output: str, _: Any) -> None:
    """Write a table slowly, in a process of its own."""
    os.chdir(folder)
    partial_file._EVERY = 0.0
    with argus_core.isolated_registry(builtins=True):
        predictions = classifier().predict_on("new.csv", batch_size=3)
        predictions.write(output, resume=True, watch=lambda done, skipped: time.sleep(0.002))


@pytest.mark.parametrize("suffix", ["csv", "npz"])
def test_killed_at_any_moment_it_goes_on_to_the_same_table(suffix: str, folder: Path) -> None:
    write_rows(Path("new.csv"), 450)
    Path("new.csv").write_text(Path("new.csv").read_text("utf-8").replace("1.5", "x"), "utf-8")
    classifier().predict_on("new.csv", batch_size=3).write(f"whole.{suffix}")
    output, random, kills = f"out.{suffix}", np.random.default_rng(0), 0
    while not Path(output).exists() or Path(f"{output}.partial.journal").exists():  # killed as it ended
        assert kills < 100
        before = _size(f"{output}.partial")
        with running(_write, str(folder), output) as (process, _):
            while process.is_alive() and _size(f"{output}.partial") == before:
                time.sleep(0.001)
            process.join(random.uniform(0, 0.2))  # then it is killed
        kills += process.exitcode == -signal.SIGKILL
        assert process.exitcode in (0, -signal.SIGKILL)
    assert kills > 1
    assert Path(output).read_bytes() == Path(f"whole.{suffix}").read_bytes()
    assert Path("out.skipped.csv").read_bytes() == Path("whole.skipped.csv").read_bytes()
    assert not [*Path().glob("*.partial*")]


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1


def test_second_process_on_one_table_is_refused() -> None:
    model = classifier()
    write_rows(Path("new.csv"), 20)

    def watch(done: int, skipped: int) -> None:
        with pytest.raises(ArgusError, match="is being written by another process; wait for it"):
            model.predict_on("new.csv").write("out.csv", resume=True)

    model.predict_on("new.csv").write("out.csv", watch=watch)
    assert len(table()) == 20


def test_planted_link_in_the_place_of_the_partial_file_is_not_followed() -> None:
    write_rows(Path("new.csv"), 3)
    Path("mine.txt").write_text("mine", "utf-8")
    os.symlink("mine.txt", "out.csv.partial")
    with pytest.raises(ArgusError, match=r"cannot write out.csv.partial"):
        classifier().predict_on("new.csv").write("out.csv", overwrite=True)
    assert Path("mine.txt").read_text("utf-8") == "mine"


def test_checkpoint_chooses_no_path_by_its_data() -> None:
    from argus_core.authors import READS

    def prepare(vocabulary: str = "") -> Any:
        raise AssertionError

    def texts(vocabulary: str = "") -> Any:
        raise AssertionError

    texts.file_params = {"vocabulary": READS}  # type: ignore[attr-defined]
    texts.prepares = {"text": prepare}  # type: ignore[attr-defined]
    argus_core.register("dataset", "texts", texts)
    Path("new.txt").write_text("hello\n", "utf-8")
    model = classifier(specs={"val": ("texts", {"vocabulary": "/etc/passwd"})}, feature_names=None)
    with pytest.raises(
        argus_core.UnsafeCheckpointError, match="vocabulary of dataset 'texts' is '/etc/passwd'"
    ):
        model.predict_on("new.txt")


def test_features_are_those_of_the_table() -> None:
    assert classifier().data.feature_names == FEATURES


def binary(**params: Any) -> argus_core.Model:
    """Return a model of two classes whose one output is the first feature."""

    class First(torch.nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows[:, :1]

    argus_core.register("nn_module", "first", First, override=True)
    model = argus_core.Model({"nn_module": "first", "device": "cpu", **params})
    model.data = argus_core.data.description.DataDescription(classes=("no", "yes"), feature_names=FEATURES)
    return model


@pytest.mark.parametrize("value", [0.3, 4.0, -0.1])
def test_logit_is_a_logit_beside_any_others(value: float) -> None:
    np.save("one.npy", np.full((1, 4), value, dtype="float32"))
    [row] = binary(loss="BCEWithLogitsLoss").predict_on("one.npy")
    assert (row["class"], round(abs(row["score"]), 3)) == ("yes" if value > 0 else "no", abs(value))


@pytest.mark.parametrize(
    "params", [{"prediction_transform": "Identity"}, {"loss": "BCELoss"}, {"loss": None}, {"loss": "MSELoss"}]
)
def test_one_number_is_a_probability_where_something_makes_one(params: dict[str, Any]) -> None:
    np.save("one.npy", np.full((1, 4), 0.3, dtype="float32"))
    [row] = binary(**params).predict_on("one.npy")
    assert (row["class"], round(row["probability"], 3)) == ("no", 0.7)
    np.save("later.npy", np.full((1, 4), 3.0, dtype="float32"))
    with pytest.raises(ArgusError, match="a later prediction is not between 0 and 1"):
        list(binary(**params).predict_on(["one.npy", "later.npy"], batch_size=1))


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_names_of_rows_of_any_length_and_numbers_stand_in_one_table(suffix: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    name = "customer-2024-000000000000000000000042"
    for each in ("named", "rows"):
        Path(f"{each}.either").touch()
    model = classifier()
    argus_core.register("reader", "any", Either)
    written = model.predict_on(["named.either", "rows.either"], batch_size=1)
    written.write(f"out.{suffix}")
    if suffix == "npz":
        rows = np.load("out.npz")["row"].tolist()
    else:
        import pyarrow.parquet

        rows = pyarrow.parquet.read_table("out.parquet")["row"].to_pylist()
    assert rows == [name, "1", "2"]


class Either(AbstractReader):
    """Reads samples that have names in one file and numbers in another."""

    suffixes, sort = (".either",), "row"

    def samples(self, path: str) -> Any:
        names = ["customer-2024-000000000000000000000042"] if "named" in path else [1, 2]
        for name in names:
            yield name, lambda: [0.0, 1.0, 2.0, 3.0]


def test_resumption_of_another_prediction_is_refused_even_if_that_has_ended() -> None:
    write_rows(Path("new.csv"), 4)
    predictions = classifier().predict_on("new.csv", batch_size=2)
    written = partial_file.PartialFile.remove
    partial_file.PartialFile.remove = lambda self: None  # type: ignore[method-assign]  # killed before it
    try:
        predictions.write("out.csv")
    finally:
        partial_file.PartialFile.remove = written  # type: ignore[method-assign]
    with pytest.raises(ArgusError, match="was begun with other"):
        classifier().predict_on("new.csv", batch_size=3).write("out.csv", resume=True)
    assert classifier().predict_on("new.csv", batch_size=2).write("out.csv", resume=True).rows == 4


def test_model_with_a_sparse_buffer_writes_a_table() -> None:
    write_rows(Path("new.csv"), 2)
    model = classifier()
    model.nn_module.register_buffer("graph", torch.eye(3).to_sparse())
    assert model.predict_on("new.csv").write("out.csv").rows == 2


def test_folder_that_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    os.makedirs("photos/closed")
    write_rows(Path("photos/new.csv"), 2)
    scan = os.scandir

    def closed(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(ArgusError, match="cannot read folder 'photos/closed': Permission denied; check"):
        classifier().predict_on("photos")


def test_archive_in_the_order_of_fortran_that_expands_is_refused_before_memory_is_taken() -> None:
    array = np.asfortranarray(np.zeros((4, 20 * 2**20), dtype="uint8"))
    np.savez_compressed("bomb.npz", input=array)
    predictions = classifier().predict_on("bomb.npz")
    assert not list(predictions)
    assert "expands to 83,886,080 bytes" in predictions.skipped[0].reason


def test_first_row_with_the_names_of_the_features_is_a_header_though_they_are_numbers() -> None:
    model = classifier(feature_names=("0", "1", "2", "3"))
    Path("plain.csv").write_text("0,1,2,3\n5,6,7,8\n1,-1,2,-2\n")
    Path("turned.csv").write_text("3,2,1,0\n8,7,6,5\n-2,2,-1,1\n")
    plain, turned = list(model.predict_on("plain.csv")), list(model.predict_on("turned.csv"))
    assert len(plain) == len(turned) == 2
    assert [row["probability"] for row in plain] == [row["probability"] for row in turned]
