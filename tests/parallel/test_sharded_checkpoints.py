"""Runs whose processes hold shards save whole models, and resume on any number of processes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from process_pool import in_processes
from safetensors.torch import load_file
from shared_runs import PARTS, data_for, largest_difference, made, train
from test_resuming import STEPS
from torch.utils.data import DataLoader

import argus_core
from argus_core.model.conversion import change_form
from argus_core.model.loading import load_model
from argus_core.registry.registry import isolated_registry

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


def in_folders(folder: Path | None, resume: Path | None = None, background: bool = False) -> dict[str, Any]:
    callbacks = []
    if folder is not None:
        named = {"file_format": "model-{step:03d}.sharded", "background": background}
        every = {"every": "1up", "optimizer_state": True}
        callbacks = [("checkpoint", {"dir_path": str(folder), **every, **named})]
    params = {**ENGINE, "step": STEPS}
    return train(params, {"callbacks": callbacks, "resume": resume, "metrics_on_train": True}, samples=50)


@pytest.mark.parametrize("background", [False, True])
def test_each_process_writes_its_own_pieces(
    background: bool, tmp_path: Path, files: tuple[list[Path], list[dict[str, Any]]], whole: dict[str, Any]
) -> None:
    assert in_processes(2, in_folders, tmp_path, None, background) == files[1]
    folders = sorted(tmp_path.glob("*.sharded"))
    assert len(folders) == whole["updates"]
    folder = folders[4]
    sizes = [shard.stat().st_size for shard in folder.glob("*.safetensors")]
    assert len(sizes) == 2
    assert max(sizes) < 2 * min(sizes)
    for count in (1, 2, 3):
        resumed = [run(None, folder)] if count == 1 else in_processes(count, in_folders, None, folder)
        for rank, each in enumerate(resumed):
            if count == 2:
                assert each == files[1][rank]
            assert largest_difference(each, whole) <= 2e-6


def with_two_callbacks(folder: Path) -> None:
    last = ("checkpoint", {"dir_path": str(folder / "last"), "max_saves": 1, "sharded": "auto"})
    best = ("monitor_checkpoint", {"dir_path": str(folder / "best"), "max_saves": 1})
    train(ENGINE, {"callbacks": [last, best]})


def test_the_last_checkpoint_is_a_folder_and_the_best_one_file(tmp_path: Path) -> None:
    in_processes(2, with_two_callbacks, tmp_path)
    assert [each.name for each in (tmp_path / "last").iterdir()] == ["model-001.sharded"]
    (best,) = (tmp_path / "best").iterdir()
    assert best.suffix == ".safetensors"
    with_two_callbacks(tmp_path / "alone")
    assert [each.name for each in (tmp_path / "alone" / "last").iterdir()] == ["model-001.safetensors"]


def test_a_folder_holds_what_one_file_holds(tmp_path: Path, files: tuple[list[Path], Any]) -> None:
    in_processes(2, in_folders, tmp_path)
    for folder, file in zip(sorted(tmp_path.glob("*.sharded")), files[0], strict=True):
        change_form(folder, joined := tmp_path / "joined.safetensors")
        ours, theirs = load_file(joined), load_file(file)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_ddp_writes_folders_too(tmp_path: Path) -> None:
    first, second = in_processes(2, saved_by_ddp, tmp_path / "model.sharded")
    assert first == second
    with isolated_registry(builtins=True):
        for (kind, name), factory in PARTS.items():
            argus_core.register(kind, name)(factory)
        state = load_model(tmp_path / "model.sharded").nn_module.state_dict()
    assert {name: each.tolist() for name, each in state.items()} == first


def saved_by_ddp(path: Path) -> dict[str, Any]:
    with isolated_registry(builtins=True):
        model = made({"nn_module": "dropping"})
        model.fit(DataLoader(data_for("dropping", 16), 4), num_epochs=1)
        model.parallel.begin_evaluation(model)
        model.save(path, optimizer_state=True)
        return {name: each.tolist() for name, each in model.nn_module.state_dict().items()}
