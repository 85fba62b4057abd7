"""Commands of several processes: dry runs, and the evaluation of a checkpoint, by one voice."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from process_pool import Pool, in_processes
from small_runs import Points, points, small_config, small_registry
from torch import distributed
from torch.utils.data import DataLoader

import argus_core
from argus_core.cli import main
from argus_core.config import read_config
from argus_core.errors import ConfigError
from argus_core.parallel.ending import ending_together
from argus_core.runs.dry_run import dry_run
from argus_core.runs.prediction import for_evaluation
from argus_core.runs.run import train

TEST = 'data.test=["points", { split = "test" }]'


def commanded(folder: Path, *words: str) -> tuple[int, str, str]:
    """Run a command in this process; return its exit code and what it printed."""
    os.chdir(folder)
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    os.environ["RANK"] = str(rank)
    try:
        with small_registry():
            result = CliRunner().invoke(main, [*words])
    finally:
        del os.environ["RANK"]
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def run(small_folder: Path) -> Path:
    train(read_config(small_config(small_folder), [TEST, "num_epochs=1"]))
    return small_folder


@pytest.mark.parametrize("count", [2, 3])
def test_test_prints_what_one_process_prints_in_the_first_alone(run: Path, count: int) -> None:
    alone = commanded(run, "test", "run")
    first, *others = in_processes(count, commanded, run, "test", "run", "--csv", f"{count}.csv")
    assert [code for code, *_ in (alone, first, *others)] == [0] * (count + 1)
    assert {out + err for _, out, err in others} == {""}
    *lines, last = first[1].splitlines()
    assert last == f"results: {count}.csv"
    assert Path(f"{count}.csv").read_text().count("val_accuracy") == 1
    assert [without_digits(each) for each in lines] == [
        without_digits(each) for each in alone[1].splitlines()
    ]


def without_digits(line: str) -> Any:
    """Return a line with its number rounded: sums over slices differ in the last digits."""
    name, _, value = line.partition(": ")
    return (name, pytest.approx(float(value), abs=1e-6)) if "loss" in name else line


def test_predict_writes_the_arrays_of_one_process(run: Path) -> None:
    words = ("predict", "run", "points", "--param", "split=val", "--metric", "accuracy")
    alone = commanded(run, *words, "--output", "one.csv")
    first, second = in_processes(2, commanded, run, *words, "--output", "two.csv")
    assert second == (0, "", "")
    assert [*map(without_digits, first[1].splitlines()[:2])] == [
        *map(without_digits, alone[1].splitlines()[:2])
    ]
    assert first[1].endswith("predictions: two.csv (30 samples)\n")
    one, two = (Path(name).read_text().splitlines() for name in ("one.csv", "two.csv"))
    assert one[0] == two[0]
    for ours, theirs in zip(one[1:], two[1:], strict=True):
        assert [*map(float, ours.split(","))] == pytest.approx([*map(float, theirs.split(","))], abs=1e-6)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("test", "run", "--csv", "small.toml"), "small.toml exists already"),
        (("predict", "nowhere", "points"), "no checkpoint at nowhere"),
    ],
)
def test_mistake_of_the_user_is_told_by_one_process(run: Path, words: Any, sentence: str) -> None:
    results = in_processes(2, refused, run, words, may_fail=True)
    told = "".join(each.message for each in results)
    assert told.count("error:") == told.count(sentence) == 1


def refused(folder: Path, words: tuple[str, ...]) -> None:
    code, _, errors = commanded(folder, *words)
    assert code == 1
    raise ValueError(errors)  # the group is gone, so that the pool must end


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_dry_run_of_several_processes_is_that_of_one_and_leaves_nothing(
    small_folder: Path, engine: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    temporary = tmp_path_factory.mktemp("temporary")
    alone = tried(small_folder, temporary, "auto")
    together = in_processes(3, tried, small_folder, temporary, engine)
    for metrics, batches in together:
        assert (metrics, batches) == (pytest.approx(alone[0], abs=1e-6), alone[1])
    assert [*temporary.iterdir()] == []
    assert not Path("run").exists()


def tried(folder: Path, temporary: Path, engine: str) -> tuple[dict[str, float], dict[str, int]]:
    os.chdir(folder)
    before, tempfile.tempdir = tempfile.tempdir, str(temporary)
    try:
        with small_registry():
            config = read_config(folder / "small.toml", [TEST, f"model.parallel={engine}", "num_workers=0"])
            result = dry_run(config)
    finally:
        tempfile.tempdir = before
    return {**result.metrics}, {**result.batches}


def rehearsed() -> tuple[dict[str, float], float]:
    """Make a dry run in Python; return its metrics, and by how much the model has changed."""
    with small_registry():
        torch.manual_seed(0)
        params = {"nn_module": ("net", {"hidden": 8}), "loss": "CrossEntropyLoss"}
        model = argus_core.Model({**params, "optimizer": ("SGD", {"lr": 0.1}), "device": "cpu"})
        before = [each.detach().clone() for each in model.nn_module.parameters()]
        loader = DataLoader(points(), 8)
        metrics = model.fit(loader, loader, seed=0, num_epochs=9, dry_run=True)
        after = [each.detach() for each in model.nn_module.parameters()]
    return metrics, max(float((one - two).abs().max()) for one, two in zip(before, after, strict=True))


def test_dry_run_in_python_leaves_the_model_as_it_was() -> None:
    alone = rehearsed()
    assert in_processes(2, rehearsed) == [(pytest.approx(alone[0], abs=1e-6), 0.0)] * 2


def seeds_apart() -> dict[str, float]:
    """Validate with a shuffled loader, once the generators of the processes differ."""
    with small_registry():
        params = {"nn_module": ("net", {"hidden": 8}), "loss": "CrossEntropyLoss", "device": "cpu"}
        torch.manual_seed(0)
        model = argus_core.Model(params)
        torch.manual_seed(distributed.get_rank() if distributed.is_initialized() else 0)
        return model.validate(DataLoader(points(), 8, shuffle=True), ["accuracy"])


def test_validation_by_itself_has_one_order_in_all_processes() -> None:
    assert in_processes(2, seeds_apart) == [pytest.approx(seeds_apart(), abs=1e-6)] * 2


class Failing(Points):
    """Samples that one process cannot read."""

    def __getitem__(self, index: int) -> Any:
        if distributed.get_rank() == 1:
            raise OSError("broken disk")
        return super().__getitem__(index)


def failing() -> None:
    with small_registry():
        params = {"nn_module": ("net", {"hidden": 8}), "loss": "CrossEntropyLoss", "device": "cpu"}
        argus_core.Model(params).validate(DataLoader(Failing(*points().tensors), 8))


def test_validation_that_fails_in_one_process_ends_all() -> None:
    first, second = in_processes(2, failing, may_fail=True)
    assert (first.kind, second.kind) == ("EndedByOtherError", "OSError")


def told_by_other(message: str) -> bool:
    try:
        with ending_together():
            raise ConfigError(message.format(distributed.get_rank()))
    except ConfigError as error:
        return bool(error.told_by_other)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("message", "count"), [("no file in process {}", 0), ("no file", 1)], ids=["differ", "alike"]
)
def test_one_says_what_all_have_to_say(message: str, count: int) -> None:
    pool = Pool(2)
    assert sum(pool.run(told_by_other, message)) == count
    pool.close()


def test_engine_single_of_a_run_is_left_out_of_an_evaluation() -> None:
    assert for_evaluation({"parallel": "single", "device": "cpu"}) == {"device": "cpu"}
    kept = {"parallel": ("ddp", {"timeout": 60}), "step": [("ema", {})]}
    assert for_evaluation(kept) == kept
