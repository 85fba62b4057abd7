"""Several processes predict as one does: the same tables and lists, rows and tensors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from predicting import classifier, write_rows
from process_pool import Failed, in_processes
from shared_runs import data_for, made
from torch import distributed
from torch.utils.data import DataLoader, IterableDataset

from argus_core.data.slices import Share
from argus_core.registry.registry import isolated_registry
from argus_core.runs.prediction import predict_all

FILES = ["a.csv", "odd.csv", "none.xyz", "b.csv"]


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


class StopError(Exception):
    """Ends a prediction in its midst."""


class Watch:
    """Ends a prediction after some batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def __call__(self, done: int, skipped: int) -> None:
        self.left -= 1
        if not self.left:
            raise StopError


def write(folder: Path, output: str, parallel: str, stop: int, resume: bool, options: Any) -> tuple[Any, ...]:
    """Write a table of the files of a folder; ``stop`` batches end it in the first process."""
    os.chdir(folder)
    with isolated_registry(builtins=True):
        predictions = classifier(parallel).predict_on(FILES, **options)
        done = predictions.write(output, resume=resume, watch=Watch(stop))
    return done.rows, done.skipped, str(done.skipped_path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_rows(Path("a.csv"), 23)
    write_rows(Path("b.csv"), 9, seed=1)
    lines = Path("b.csv").read_text("utf-8").splitlines()
    bad = ["nan,1,2,3", "1,2", *["1,2,x,4"] * 6]
    Path("b.csv").write_text("\n".join([*lines[:4], *bad, *lines[4:]]), "utf-8")
    Path("odd.csv").write_text("a,b\n1,2\n", "utf-8")
    Path("none.xyz").touch()
    return tmp_path


def assert_same_files(suffix: str) -> None:
    for name in (f"{{}}.{suffix}", "{}.skipped.csv"):
        assert Path(name.format("one")).read_bytes() == Path(name.format("two")).read_bytes()
    assert not [*Path().glob("*.partial*")]


@pytest.mark.parametrize(
    ("count", "suffix", "batch_size"), [(2, "csv", 4), (3, "npz", 4), (2, "jsonl", 3), (3, "csv", 100)]
)
def test_table_and_skipped_samples_are_those_of_one_process(
    folder: Path, count: int, suffix: str, batch_size: int
) -> None:
    options = {"batch_size": batch_size, "top": 2}
    alone = write(folder, f"one.{suffix}", "auto", 0, False, options)
    together = in_processes(count, write, folder, f"two.{suffix}", "auto", 0, False, options)
    assert alone[:2] == (32, 10)
    assert together == [(*alone[:2], "two.skipped.csv")] * count
    assert_same_files(suffix)


def test_workers_read_the_batches_of_their_own_process(folder: Path) -> None:
    predictions = classifier().predict_on("a.csv", batch_size=2, num_workers=2)
    for process in range(3):
        numbers = [batch.number for batch in predictions.loader(1, Share(process, 3))]
        assert numbers == [*range(1 + process, 12, 3)]


def test_shards_of_a_model_predict_though_some_processes_have_no_samples(folder: Path) -> None:
    write(folder, "one.csv", "auto", 0, False, {"batch_size": 4})
    in_processes(3, write, folder, "two.csv", "fsdp", 0, False, {"batch_size": 4})
    one, two = (Path(name).read_text().splitlines() for name in ("one.csv", "two.csv"))
    assert len(one) == len(two)
    for ours, theirs in zip(one[1:], two[1:], strict=True):
        *row, probability = ours.split(",")
        *other, same = theirs.split(",")
        assert (row, float(probability)) == (other, pytest.approx(float(same), abs=1e-6))


def test_prediction_that_ends_in_its_midst_resumes_on_other_numbers_of_processes(folder: Path) -> None:
    write(folder, "one.csv", "auto", 0, False, {"batch_size": 2})
    ended = in_processes(2, write, folder, "two.csv", "auto", 3, False, {"batch_size": 2}, may_fail=True)
    assert [each.kind for each in ended] == ["StopError", "EndedByOtherError"]
    ended = in_processes(3, write, folder, "two.csv", "auto", 2, True, {"batch_size": 2}, may_fail=True)
    assert ended[0].kind == "StopError"
    with pytest.raises(StopError):
        write(folder, "two.csv", "auto", 5, True, {"batch_size": 2})
    in_processes(2, write, folder, "two.csv", "auto", 0, True, {"batch_size": 2})
    assert_same_files("csv")


def rows(folder: Path, files: list[str]) -> list[dict[str, Any]]:
    os.chdir(folder)
    with isolated_registry(builtins=True):
        predictions = classifier().predict_on(files, batch_size=3)
        return [*predictions, *(each._asdict() for each in predictions.skipped)]


def test_every_process_gets_all_rows(folder: Path) -> None:
    assert in_processes(2, rows, folder, FILES) == [rows(folder, FILES)] * 2


def test_processes_with_other_files_are_refused(folder: Path) -> None:
    first, second = in_processes(2, other_rows, folder, may_fail=True)
    assert first.kind == "EndedByOtherError"
    assert "the files of the prediction differ between process 0 and process 1" in second.message


def other_rows(folder: Path) -> None:
    rows(folder, ["a.csv", "b.csv"][: 2 - rank()])


def refused(folder: Path) -> None:
    """Predict with a network that fails in the second process, for its batch."""
    os.chdir(folder)
    with isolated_registry(builtins=True):
        model = classifier()
        if rank() == 1:
            model.nn_module.register_forward_hook(fail)
        model.predict_on(["a.csv"], batch_size=4).write("out.csv")


def fail(*args: Any) -> None:
    raise ZeroDivisionError("of the network")


def test_an_exception_in_one_process_ends_all_and_keeps_the_rows_so_far(folder: Path) -> None:
    first, second = in_processes(2, refused, folder, may_fail=True)
    assert (first.kind, second.kind) == ("EndedByOtherError", "ZeroDivisionError")
    assert first.message == "process 1 of 2 failed: ZeroDivisionError: of the network"
    assert Path("out.csv.partial").exists()


def leaving(folder: Path) -> None:
    """Predict, once the second process is gone."""
    os.chdir(folder)
    with isolated_registry(builtins=True):
        predictions = classifier().predict_on(["a.csv"])
        if rank() == 1:
            os._exit(1)
        predictions.write("out.csv")


def test_process_that_is_gone_is_noticed_though_the_others_would_wait_long(folder: Path) -> None:
    first, _ = in_processes(2, leaving, folder, may_fail=True)  # a pool waits for a minute
    assert "process 1 of 2 did not answer" in first.message


def all_predicted(sort: str, engine: str, metrics: list[str] | None, samples: int) -> Any:
    """Return the predictions for a loader, or a list of batches, as lists."""
    with isolated_registry(builtins=True):
        data = data_for("dense", samples)
        loader: Any = DataLoader(data, 7)
        if sort == "list":
            loader = [data[start : start + 7] for start in range(0, samples, 7)]
        elif sort == "stream":
            loader = DataLoader(Stream(), 7)
        elif sort == "inputs":
            loader = DataLoader(data.tensors[0], 7)  # type: ignore[arg-type]
        tensors, values = predict_all(made({"parallel": engine}), loader, metrics)
        return {name: tensor.tolist() for name, tensor in tensors.items()}, values


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from data_for("dense", 5)


@pytest.mark.parametrize(
    ("count", "sort", "engine", "metrics"),
    [
        (2, "loader", "ddp", None),
        (3, "loader", "fsdp", ["accuracy"]),
        (3, "list", "fsdp", None),
        (2, "inputs", "ddp", None),
    ],
)
def test_predictions_for_a_loader_are_those_of_one_process(
    count: int, sort: str, engine: str, metrics: list[str] | None
) -> None:
    tensors, values = all_predicted(sort, "auto", metrics, 50)  # the last batch has one sample
    first, *others = in_processes(count, all_predicted, sort, engine, metrics, 50)
    assert first[0].keys() == tensors.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(torch.tensor(first[0][name]), torch.tensor(tensor), rtol=0, atol=1e-6)
    for found, same in [first, *others]:
        assert same == pytest.approx(values, abs=1e-6)
        assert found is first[0] or found == {}


def test_a_stream_is_refused_in_a_sentence() -> None:
    results = in_processes(2, all_predicted, "stream", "ddp", None, 5, may_fail=True)
    for each in results:
        assert isinstance(each, Failed)
        assert (
            "the loader to predict on (Stream) gives no batches of which each process could" in each.message
        )
