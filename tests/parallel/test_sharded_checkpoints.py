"""Runs whose processes hold shards save whole models, and resume on any number of processes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from process_pool import in_processes
from safetensors.torch import load_file
from shared_runs import largest_difference, train
from test_resuming import STEPS

ENGINE = {"parallel": "fsdp", "optimizer": ("AdamW", {"lr": 0.01})}


def run(folder: Path | None, resume: Path | None = None, engine: Any = "fsdp") -> dict[str, Any]:
    callbacks = []
    if folder is not None:
        every = {"every": "1up", "optimizer_state": True}
        callbacks = [("checkpoint", {"dir_path": str(folder), **every})]
    params = {**ENGINE, "step": STEPS, "parallel": engine}
    return train(params, {"callbacks": callbacks, "resume": resume, "metrics_on_train": True}, samples=50)


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return run(None)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[dict[str, Any]]]:
    """Return the checkpoints of a run of two processes, one for each update, and what the run came to."""
    folder = tmp_path_factory.mktemp("two")
    results = in_processes(2, run, folder)
    return sorted(folder.glob("*.safetensors")), results


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_run_with_shards_resumes_from_each_update(
    count: int, files: tuple[list[Path], list[dict[str, Any]]], whole: dict[str, Any]
) -> None:
    paths, undisturbed = files
    assert len(paths) == whole["updates"] == 8
    for path in paths if count == 2 else paths[1::2]:
        resumed = [run(None, path)] if count == 1 else in_processes(count, run, None, path)
        for rank, each in enumerate(resumed):
            if count == 2:
                assert each == undisturbed[rank]
            assert largest_difference(each, whole) <= 2e-6


def test_the_file_of_two_processes_is_that_of_one(files: tuple[list[Path], Any], tmp_path: Path) -> None:
    run(tmp_path)
    for ours, theirs in zip(sorted(tmp_path.glob("*.safetensors")), files[0], strict=True):
        one, two = load_file(ours), load_file(theirs)
        assert one.keys() == two.keys()
        assert {name: each.shape for name, each in one.items()} == {
            name: each.shape for name, each in two.items()
        }
        for name in one:
            if one[name].is_floating_point():
                assert (one[name] - two[name]).abs().max() <= 2e-6, name


def test_a_checkpoint_of_shards_goes_on_under_ddp(
    files: tuple[list[Path], Any], whole: dict[str, Any]
) -> None:
    for each in in_processes(2, on_ddp, files[0][3]):
        assert largest_difference(each, whole) <= 2e-6


def on_ddp(resume: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the run that resumes")  # the engine has changed
        return run(None, resume, "ddp")
