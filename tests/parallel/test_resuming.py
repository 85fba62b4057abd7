"""A run of several processes resumes on any number of them, from any update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from process_pool import in_processes
from shared_runs import largest_difference, train

STEPS = [("accumulate", {"steps": 2}), ("ema", {"decay": 0.9})]


def run(folder: Path | None, resume: Path | None = None, params: Any = None, **fit: Any) -> dict[str, Any]:
    callbacks = []
    if folder is not None:
        every = {"every": "1up", "optimizer_state": True}
        callbacks = [("checkpoint", {"dir_path": str(folder), **every})]
    return train(
        {"step": STEPS, **(params or {})},
        {"callbacks": callbacks, "resume": resume, "metrics_on_train": True, **fit},
        samples=49 if params else 50,  # batch normalisation takes no slice of one
    )


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return train({"step": STEPS}, {"metrics_on_train": True}, samples=50)


@pytest.fixture(scope="module")
def files(
    tmp_path_factory: pytest.TempPathFactory, whole: dict[str, Any]
) -> tuple[list[Path], list[dict[str, Any]]]:
    """Return the checkpoints of a run of two processes, one for each update, and what the run came to."""
    folder = tmp_path_factory.mktemp("two")
    results = in_processes(2, run, folder)
    files = sorted(folder.glob("*.safetensors"))
    assert len(files) == whole["updates"] == 8
    return files, results


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_run_of_two_processes_resumes_from_each_update(
    count: int, files: tuple[list[Path], list[dict[str, Any]]], whole: dict[str, Any]
) -> None:
    paths, undisturbed = files
    for path in paths:
        resumed = [run(None, path)] if count == 1 else in_processes(count, run, None, path)
        for rank, each in enumerate(resumed):
            if count == 2:
                assert each == undisturbed[rank]
            assert largest_difference(each, whole) <= 2e-6


def test_a_run_of_one_process_resumes_in_three(tmp_path: Path, whole: dict[str, Any]) -> None:
    run(tmp_path)
    for path in sorted(tmp_path.glob("*.safetensors"))[1:6:2]:
        for each in in_processes(3, run, None, path):
            assert largest_difference(each, whole) <= 2e-6


def test_dropout_resumes_to_the_last_bit_on_the_same_number(tmp_path: Path) -> None:
    params = {"nn_module": "dropping"}
    undisturbed = in_processes(2, run, tmp_path, None, params)
    for path in sorted(tmp_path.glob("*.safetensors"))[1:7:2]:
        assert in_processes(2, run, None, path, params) == undisturbed


def test_only_one_file_is_written_for_each_save(tmp_path: Path) -> None:
    in_processes(2, run, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".safetensors" and path.name[0] != "."]
