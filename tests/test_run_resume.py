"""A run in a run directory goes on where it was stopped."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from networks import same_weights
from small_runs import small_config, small_registry

import argus_core
from argus_core import ConfigError, State, load_model
from argus_core.config import read_config
from argus_core.run import resume, train


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder, with the small network and data registered."""
    monkeypatch.chdir(tmp_path)
    with small_registry():
        yield tmp_path


def stopped(folder: Path) -> Path:
    """Train with a signal in the second epoch's first update; return the run directory."""

    class Stop(argus_core.Callback):
        def iteration_complete(self, state: State) -> None:
            if (state.epoch, state.iteration) == (1, 0):
                signal.raise_signal(signal.SIGTERM)

    argus_core.register("callback", "stop", Stop, override=True)
    with pytest.raises(SystemExit) as ended:
        train(
            read_config(small_config(folder, 'callbacks = ["stop"]\n', "stopped.toml"), ['run_dir="stopped"'])
        )
    assert ended.value.code == 143
    argus_core.register("callback", "stop", lambda: argus_core.on_start(lambda state: None), override=True)
    return Path("stopped")


def history(directory: Path) -> list[dict[str, Any]]:
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [{**json.loads(line), "time": None} for line in lines]


def test_a_stopped_run_goes_on_and_ends_as_the_whole_one(folder: Path) -> None:
    whole = train(read_config(small_config(folder)))
    directory = stopped(folder)
    resumed = resume(directory)
    assert resumed.metrics == whole.metrics
    assert (resumed.best_epoch, resumed.best_value) == (whole.best_epoch, whole.best_value)
    assert history(directory) == history(whole.directory.path)
    for name in ("best", "last"):
        models = [
            load_model(each / "checkpoints" / f"{name}.safetensors") for each in (directory, Path("run"))
        ]
        assert same_weights(*models)


def test_a_run_may_get_more_epochs(folder: Path) -> None:
    train(read_config(small_config(folder)))
    assert len(history(Path("run"))) == 3
    resume(Path("run"), ["num_epochs=5"])
    assert [line["epoch"] for line in history(Path("run"))] == [0, 1, 2, 3, 4]


def test_a_run_goes_on_from_one_of_its_checkpoints(folder: Path) -> None:
    train(read_config(small_config(folder)))
    assert resume(Path("run/checkpoints/last.safetensors"), ["num_epochs=4"]).metrics["val_loss"] > 0


@pytest.mark.parametrize("path", ["nowhere", ".", "small.toml"])
def test_what_is_no_run_is_refused(folder: Path, path: str) -> None:
    small_config(folder)
    with pytest.raises(
        ConfigError, match=rf"{path} is of no run; give a run directory, which has a config.toml"
    ):
        resume(Path(path))


def test_a_run_without_its_last_checkpoint_is_refused(folder: Path) -> None:
    train(read_config(small_config(folder)))
    Path("run/checkpoints/last.safetensors").unlink()
    with pytest.raises(argus_core.CheckpointError, match="holds no checkpoint that a run could go on from"):
        resume(Path("run"))


def test_the_last_checkpoint_is_written_as_often_as_is_said(folder: Path) -> None:
    seen: list[int] = []

    class Note(argus_core.Callback):
        def checkpoint_saved(self, state: State) -> None:
            if "last" in str(state.checkpoint_path):
                seen.append(state.global_step)

    argus_core.register("callback", "note", Note)
    train(read_config(small_config(folder, 'checkpoint_every = "2up"\ncallbacks = ["note"]\n')))
    assert seen == [2, 4, 6]
