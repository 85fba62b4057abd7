"""Run directories of several processes: the last checkpoint is a folder where processes hold shards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from process_pool import in_processes
from safetensors.torch import load_file
from small_runs import CONFIG, small_registry

import argus_core
from argus_core import ArgusWarning, ConfigError, load_model
from argus_core.config import read_config
from argus_core.model.conversion import change_form
from argus_core.runs.best_checkpoint import checkpoint_at
from argus_core.runs.directory import RunDirectory
from argus_core.runs.run import resume, train

FSDP = CONFIG.replace('device = "cpu"', 'device = "cpu"\nparallel = "fsdp"')


class Stop(argus_core.Callback):
    """Ends the run after an update, as a process that is killed does, but with its last checkpoint saved."""

    def __init__(self, update: int) -> None:
        self.update = update

    def iteration_complete(self, state: Any) -> None:
        state.stopped = state.stopped or (state.phase == "train" and state.global_step >= self.update)


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        with small_registry():
            yield
    finally:
        os.chdir(before)


def trained(folder: Path, *changes: str, until: int | None = None, overwrite: bool = False) -> dict[str, Any]:
    with inside(folder):
        config = read_config(Path("fsdp.toml"), changes)
        return train(config, overwrite, [] if until is None else [Stop(until)]).metrics


def resumed(folder: Path, until: int | None = None) -> dict[str, Any]:
    with inside(folder):
        return resume(Path("run"), (), [] if until is None else [Stop(until)]).metrics


def on(count: int, job: Any, *arguments: Any, **options: Any) -> Any:
    """Return what a job returns, in so many processes."""
    return (
        job(*arguments, **options) if count == 1 else in_processes(count, called, job, arguments, options)[0]
    )


def called(job: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    return job(*arguments, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fsdp.toml").write_text(FSDP)
    return tmp_path


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of two processes that ended in the middle of its second epoch."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "fsdp.toml").write_text(FSDP)
    on(2, trained, folder, until=3)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return what the whole run comes to in one process: its metrics and its weights."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "fsdp.toml").write_text(FSDP)
    return trained(folder), weights(folder / "run/checkpoints/last.safetensors")


def weights(path: Path) -> dict[str, torch.Tensor]:
    if path.is_dir():
        with small_registry():
            return dict(load_model(path, device="cpu").nn_module.state_dict())
    return {
        name.removeprefix("nn/"): each for name, each in load_file(path).items() if name.startswith("nn/")
    }


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "run" / "checkpoints"))


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "copy"))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_run_of_shards_resumes_from_its_folder_and_keeps_one_last_checkpoint(
    count: int, begun: Path, whole: Any, tmp_path: Path
) -> None:
    assert names(begun) == ["best.safetensors", "last.sharded"]
    folder = copied(begun, tmp_path)
    metrics = on(count, resumed, folder)
    last = "last.safetensors" if count == 1 else "last.sharded"
    assert names(folder) == ["best.safetensors", last]
    assert metrics == pytest.approx(whole[0], abs=2e-6)
    for name, each in weights(folder / "run/checkpoints" / last).items():
        torch.testing.assert_close(each, whole[1][name], rtol=0, atol=2e-6)


def test_a_run_killed_between_two_forms_resumes_from_the_newer_one(
    begun: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copied(begun, tmp_path)
    resumed(folder, until=5)
    shutil.copytree(begun / "run/checkpoints/last.sharded", folder / "run/checkpoints/last.sharded")
    run = RunDirectory(folder / "run")
    os.utime(run.lasts[1])  # its time says that it is the newer one, as that of a copy may
    assert run.last == run.lasts[1]
    with caplog.at_level("INFO"):
        resumed(folder, until=6)
    assert "last.safetensors, after 5 updates" in caplog.text
    assert names(folder) == ["best.safetensors", "last.safetensors"]


def test_a_run_that_resumes_from_another_checkpoint_keeps_one_last_checkpoint(
    begun: Path, tmp_path: Path
) -> None:
    folder = copied(begun, tmp_path)
    assert change_form(folder / "run/checkpoints/last.sharded", folder / "run/checkpoints/own.safetensors")
    with inside(folder):
        resume(Path("run/checkpoints/own.safetensors"), (), [Stop(5)])
    assert names(folder) == ["best.safetensors", "last.safetensors", "own.safetensors"]


def test_a_run_in_one_file_resumes_in_a_folder(tmp_path: Path, folder: Path, whole: Any) -> None:
    trained(folder, until=3)
    assert names(folder) == ["best.safetensors", "last.safetensors"]
    assert on(2, resumed, folder) == pytest.approx(whole[0], abs=2e-6)
    assert names(folder) == ["best.safetensors", "last.sharded"]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("moment", ["begun", "saved", "settled"])
def test_a_replaced_run_is_whole_until_the_new_one_has_a_checkpoint(
    moment: str, begun: Path, tmp_path: Path
) -> None:
    folder = copied(begun, tmp_path)
    before = contents(folder)
    run = RunDirectory(folder / "run")
    with run.held():
        run.check(overwrite=True)
        run.create(run.config.read_text(), {"argus-torch": "1"})
        assert not run.last.exists()
        if moment != "begun":
            shutil.copytree(begun / "run/checkpoints/last.sharded", run.lasts[1])
        if moment == "settled":
            run.settle()
    if moment == "begun":
        with pytest.warns(ArgusWarning, match="the earlier run is restored$"):
            RunDirectory(folder / "run").recover()  # as the next command does
        assert contents(folder) == before
    else:
        RunDirectory(folder / "run").recover()
        assert names(folder) == ["last.sharded"]


def test_a_run_that_fails_before_its_first_checkpoint_leaves_the_earlier_one(
    begun: Path, tmp_path: Path
) -> None:
    folder = copied(begun, tmp_path)
    before = contents(folder)
    with pytest.raises(ZeroDivisionError), inside(folder):
        train(read_config(Path("fsdp.toml"), ()), True, [Failing()])
    assert contents(folder) == before
    trained(folder, overwrite=True, until=3)
    assert names(folder) == ["best.safetensors", "last.safetensors"]
    on(2, trained, folder, overwrite=True, until=3)
    assert names(folder) == ["best.safetensors", "last.sharded"]


class Failing(argus_core.Callback):
    def iteration_complete(self, state: Any) -> None:
        raise ZeroDivisionError


def test_a_callback_cannot_take_the_folders_name(folder: Path) -> None:
    with pytest.raises(ConfigError, match="may give a checkpoint the name of run/checkpoints/last.sharded"):
        trained(folder, "fit.callbacks=[['checkpoint', {file_format='last.sharded'}]]")


def test_commands_take_the_run_and_its_folder(begun: Path) -> None:
    assert checkpoint_at(begun / "run") == begun / "run/checkpoints/best.safetensors"
    last = begun / "run/checkpoints/last.sharded"
    assert checkpoint_at(last) == last
    assert RunDirectory.of(last).root == begun / "run"
