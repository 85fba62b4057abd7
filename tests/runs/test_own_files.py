"""What a run itself writes is written by none of its callbacks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from small_runs import contents

import argus_core
from argus_core.callbacks import Checkpoint, LoggingToCSV, LoggingToFile, Progress
from argus_core.config import read_config
from argus_core.errors import ConfigError
from argus_core.registry.file_params import WRITES
from argus_core.runs.run import resume, train

OWN = [
    "config.toml", "versions.json", "metrics.jsonl", "log.txt", "test.json", "checkpoints/last.safetensors",
    "checkpoints/best.safetensors", "checkpoints/best-not-finite.safetensors", ".lock", ".made", ".replaced",
    ".config.toml.old", "checkpoints/last.sharded", "checkpoints/.last.sharded.old",
]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(small_folder: Path) -> Path:
    return small_folder


def run(*changes: str, callbacks: Any = ()) -> Path:
    config = read_config(Path("small.toml"), ["num_epochs=1", *changes])
    return train(config, callbacks=callbacks).directory.root


def refused(parameter: str, name: str) -> Any:
    reason = rf"{parameter} of callback '\w+' is .*run/{re.escape(name)}, a file that the run writes"
    return pytest.raises(ConfigError, match=reason)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize(("key", "callback"), [("callbacks", "logging_to_csv"), ("val_callbacks", "writer")])
@pytest.mark.parametrize("command", ["train", "resume"])
def test_callback_that_names_a_file_of_its_run_is_refused(
    command: str, key: str, callback: str, name: str, folder: Path
) -> None:
    argus_core.register("callback", "writer")(Writer)
    directory = run() if command == "resume" else None
    before = contents(folder)
    change = f'{key}=["{callback}", {{file_path="run/{name}"}}]'
    with refused("file_path", name):
        resume(directory, [change, "num_epochs=2"]) if directory else run(change)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("change", "parameter", "name"),
    [
        ('callbacks=["logging_to_csv", {file_path="run/Config.toml"}]', "file_path", "config.toml"),
        ('callbacks=["logging_to_csv", {file_path="run/LOG.TXT/a.csv"}]', "file_path", "log.txt"),
        (
            'callbacks=["checkpoint", {dir_path="run/Checkpoints", file_format="LAST.safetensors"}]',
            "file_format",
            "checkpoints/last.safetensors",
        ),
    ],
)
def test_name_that_differs_in_case_alone_is_refused(
    change: str, parameter: str, name: str, folder: Path
) -> None:
    before = contents(folder)
    with refused(parameter, name):
        run(change)
    assert contents(folder) == before


class Writer:
    """A callback of a package, which says which of its parameters is a path."""

    file_params = {"file_path": WRITES}

    def __init__(self, file_path: str) -> None:
        self.path = file_path


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("command", ["train", "resume"])
def test_checkpoints_by_the_name_of_a_file_of_the_run_are_refused(
    command: str, name: str, folder: Path
) -> None:
    directory = run() if command == "resume" else None
    before = contents(folder)
    change = f'callbacks=["checkpoint", {{dir_path="run", file_format="{name}"}}]'
    with refused("file_format", name):
        resume(directory, [change, "num_epochs=2"]) if directory else run(change)
    assert contents(folder) == before


@pytest.mark.parametrize(
    "change",
    [
        'callbacks=["checkpoint", {dir_path="run/test.json"}]',
        'callbacks=["checkpoint", {dir_path="run/config.toml/sub"}]',
        'callbacks=["logging_to_csv", {file_path="run/sub/../config.toml"}]',
        'callbacks=["checkpoint", {dir_path="run/checkpoints", file_format="{val_accuracy}.safetensors"}]',
        'val_callbacks=["logging_to_file", {file_path="run/log.txt"}]',
    ],
)
def test_path_that_leads_to_a_file_of_the_run_is_refused(change: str, folder: Path) -> None:
    before = contents(folder)
    with pytest.raises(ConfigError, match="a file that the run writes; choose another path"):
        run(change)
    assert contents(folder) == before


@pytest.mark.parametrize("make", [
    lambda: LoggingToCSV("run/config.toml"),
    lambda: LoggingToFile(Path("run") / "versions.json"),
    lambda: Checkpoint("run/checkpoints", file_format="last.safetensors"),
])  # fmt: skip
def test_instance_that_writes_to_a_file_of_the_run_is_refused(make: Any, folder: Path) -> None:
    before = contents(folder)
    with pytest.raises(ConfigError, match="a file that the run writes"):
        run(callbacks=[make()])
    assert contents(folder) == before


def test_reports_of_the_run_may_be_ones_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = run(
        'callbacks=["metrics_jsonl", {file_path="run/metrics.jsonl"}]',
        callbacks=[LoggingToFile("run/log.txt", append=True), Progress()],
    )
    assert (directory / "log.txt").read_text("utf-8").count("train starts") == 1
    assert (directory / "metrics.jsonl").read_text("utf-8").count("\n") == 1
    assert "best epoch" not in capsys.readouterr().out
    resume(directory, ["num_epochs=2"])


def test_files_beside_those_of_the_run_are_written(folder: Path) -> None:
    directory = run(
        'callbacks=["logging_to_csv", ["checkpoint", {dir_path="run/checkpoints", every="1up"}], '
        '["logging_to_file", {file_path="run/notes.txt"}]]'
    )
    assert {"metrics.csv", "notes.txt"} <= set(contents(directory))
    resume(directory, ["num_epochs=2"])
