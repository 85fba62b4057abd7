"""Runs that torchrun starts: by ``argus train --nproc-per-node``, and by a script of the user's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from argus_core.cli.launcher import exit_status
from argus_core.cli.launching_command import split_arguments
from argus_core.config import Config
from argus_core.errors import ConfigError
from argus_core.model.conversion import change_form
from argus_core.parallel.single import Single
from argus_core.runs import together
from argus_core.runs.together import in_one_group

PARTS = """
import os
import signal

import argus_core
import torch
from torch import nn
from torch.utils.data import TensorDataset


@argus_core.register("nn_module", "small")
def small():
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


@argus_core.register("dataset", "rows")
def rows(seed=0):
    generator = torch.Generator().manual_seed(seed)
    input = torch.randn(50, 6, generator=generator)
    return TensorDataset(input, torch.randint(3, (50,), generator=generator))


class Killer(argus_core.Callback):
    def iteration_complete(self, state):
        first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
        if first and os.environ.get("RANK") == "1" and state.phase == "train" and state.global_step == 11:
            os.kill(os.getpid(), signal.SIGKILL)


argus_core.register("callback", "killer")(Killer)
"""

CONFIG = """
[model]
nn_module = "small"
loss = "CrossEntropyLoss"
optimizer = ["SGD", { lr = 0.1, momentum = 0.9 }]
device = "cpu"

[data]
train = "rows"
val = ["rows", { seed = 1 }]
batch_size = 7

[fit]
num_epochs = 3
seed = 0
num_threads = 1
metrics = ["accuracy"]
"""

SCRIPT = """
import sys

sys.path.insert(0, ".")
import parts
import torch
from torch.utils.data import DataLoader

from argus_core import Model
from argus_core.runs.prediction import predict_all

torch.manual_seed(0)
optimizer = ("SGD", {"lr": 0.1})
model = Model({"nn_module": "small", "loss": "CrossEntropyLoss", "optimizer": optimizer, "device": "cpu"})
metrics = model.fit(DataLoader(parts.rows(), 7, shuffle=True), num_epochs=2, seed=0)
model.save(sys.argv[1])
tensors, values = predict_all(model, DataLoader(parts.rows(1), 7), ["accuracy"])
if tensors:
    print(len(tensors["prediction"]), round(values["loss"], 5), values["accuracy"])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "run.toml").write_text(CONFIG)
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


def finished(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "WORLD_SIZE"} | {
        "OMP_NUM_THREADS": "1"
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def argus(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return finished(folder, "-m", "argus_core", *arguments)


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = load_file(one), load_file(other)
    names = [name for name in ours if name.startswith("nn/")]
    assert names
    for name in names:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=2e-6)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run directory of the same run in one process."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "parts.py").write_text(PARTS)
    (folder / "run.toml").write_text(CONFIG)
    assert argus(folder, "train", "run.toml", "--parts", "parts.py", "--run-dir", "one").returncode == 0
    return folder / "one"


def losses(run: Path) -> list[float]:
    return [json.loads(line)["val_loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_killed_process_restarts_all_and_the_run_is_that_of_one(folder: Path, alone: Path) -> None:
    train = ("train", "run.toml", "--parts", "parts.py")
    killing = ("--set", "fit.callbacks=['killer']", "--max-restarts", "1", "--nproc-per-node=2")
    together = argus(folder, *train, "--run-dir", "two", "--set", "model.parallel=fsdp", *killing)
    assert together.returncode == 0, together.stderr
    assert change_form(folder / "two/checkpoints/last.sharded", folder / "last.safetensors")
    assert_same_weights(alone / "checkpoints/last.safetensors", folder / "last.safetensors")
    assert losses(folder / "two") == pytest.approx(losses(alone), abs=1e-6)
    assert together.stdout.count("best val_loss") == 1


def test_torchrun_trains_and_predicts_in_a_script(folder: Path) -> None:
    alone = finished(folder, "script.py", "one.safetensors")
    assert alone.returncode == 0
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    together = finished(folder, *launcher, "script.py", "two.safetensors")
    assert together.returncode == 0, together.stderr
    assert_same_weights(folder / "one.safetensors", folder / "two.safetensors")
    assert together.stdout == alone.stdout
    assert together.stdout.startswith("50 ")


def test_a_failure_is_shown_with_its_process_and_the_run_resumes_on_three(folder: Path, alone: Path) -> None:
    (folder / "parts.py").write_text(
        PARTS.replace("os.kill(os.getpid(), signal.SIGKILL)", "raise ValueError('mine')")
    )
    failing = ("--set", "fit.callbacks=['killer']", "--nproc-per-node", "2")
    together = argus(folder, "train", "run.toml", "--parts", "parts.py", "--run-dir", "two", *failing)
    assert together.returncode == 1
    assert "error: ValueError: mine (" in together.stderr
    assert "in process 1 of 2" in together.stderr
    assert together.stderr.count("error:") == 1
    assert "Traceback" not in together.stderr  # of torchrun
    assert "torch" not in together.stderr
    resumed = argus(
        folder, "resume", "two", "--set", "fit.callbacks=[]", "--parts", "parts.py", "--nproc-per-node", "3"
    )
    assert resumed.returncode == 0, resumed.stderr
    assert_same_weights(alone / "checkpoints/last.safetensors", folder / "two/checkpoints/last.safetensors")


def test_arguments_of_the_launcher_are_told_from_others() -> None:
    given = [
        "run.toml",
        "--nproc-per-node",
        "2",
        "--set",
        "a=1",
        "--rdzv_endpoint=host:1",
        "--standalone",
        "--overwrite",
    ]
    launching, rest = split_arguments(given)
    assert launching == ["--nproc-per-node", "2", "--rdzv_endpoint=host:1", "--standalone"]
    assert rest == ["run.toml", "--set", "a=1", "--overwrite"]


@pytest.mark.parametrize(("exitcode", "status"), [(1, 1), (130, 130), (-9, 137), (-15, 143)])
def test_the_launcher_ends_as_its_process_did(exitcode: int, status: int) -> None:
    assert exit_status(exitcode) == status


def test_an_option_without_its_value_is_told() -> None:
    with pytest.raises(ConfigError, match="--nproc-per-node has no value"):
        split_arguments(["run.toml", "--nproc-per-node"])


@pytest.mark.parametrize(("given", "expected"), [(7, 7), ("x", Single.timeout), (None, Single.timeout)])
def test_the_group_has_the_timeout_of_the_configuration(
    given: Any, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine, which is built in the group, refuses one that is no number."""
    opened = []

    def open_group(device: str, timeout: float) -> AbstractContextManager[None]:
        opened.append((device, timeout))
        return nullcontext()

    monkeypatch.setattr(together, "in_group_on", open_group)
    monkeypatch.setenv("WORLD_SIZE", "2")
    options = {} if given is None else {"timeout": given}
    config = Config({"device": "cpu", "parallel": ("ddp", options)}, {}, {}, file="run.toml")
    with in_one_group(lambda: config):
        assert opened == [("cpu", expected)]
