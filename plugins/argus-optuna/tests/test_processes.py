"""Sweeps in processes of their own: killed, interrupted, two at once, and read by a third."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from argus_optuna import sweep

CHOICES = '"optimizer.lr" = { choices = [0.1] }'
LONG = ("--set", "num_epochs=30", "--set", "sweep.pruner=none")
LIMIT = 300.0  # seconds for any one process

TOGETHER = """
import json, pathlib, sys, time
from argus_optuna import sweep
import argus_optuna.search  # imports torch before the two begin
me, other = sys.argv[1:]
mine = []
pathlib.Path(me).touch()
while not pathlib.Path(other).exists():
    time.sleep(0.01)
sweep("digits.toml", ["num_epochs=4"], trials=6, on_trial=lambda trial: mine.append(trial.number))
print(json.dumps(mine))
"""
READER = """
import json, sys
import argus_core
model = argus_core.load_model(sys.argv[1], device="cpu")
assert not {"argus_optuna", "optuna"} & set(sys.modules)
print(json.dumps([type(model.nn_module).__name__, model.params["optimizer"]]))
"""


def argus(*args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "argus_core", *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, output
    return output


def sweep_json(*args: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "argus_core", "sweep", "digits.toml", "--json", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def wait_for_epochs(process: subprocess.Popen[str], run: Path, number: int) -> None:
    """Return as soon as a run has so many epochs behind it."""
    end = time.monotonic() + LIMIT
    while len(epochs(run)) < number:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.005)


def epochs(run: Path) -> list[dict[str, Any]]:
    """Return what metrics.jsonl says of each epoch, times aside."""
    file = run / "metrics.jsonl"
    found: Sequence[str] = file.read_text("utf-8").splitlines() if file.exists() else ()
    records = [json.loads(line) for line in found if line.endswith("}")]
    return [{key: value for key, value in record.items() if "time" not in key} for record in records]


def test_a_sweep_that_signals_end_goes_on_exactly(write: Any) -> None:
    write(CHOICES)
    run = Path("runs/digits-sweep/trial-0000")
    for number, signum, status in (
        (3, signal.SIGKILL, -signal.SIGKILL),
        (8, signal.SIGTERM, 128 + signal.SIGTERM),
    ):
        process = argus("sweep", "digits.toml", "--trials", "1", *LONG)
        wait_for_epochs(process, run, number)
        process.send_signal(signum)
        output, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == status
        told = f"can be resumed: argus sweep digits.toml --trials 1 --set {' --set '.join(LONG[1::2])}"
        assert (told in output) == (signum != signal.SIGKILL)
        assert number <= len(epochs(run)) < 30
    result = sweep_json("--trials", "1", *LONG)
    whole = sweep("digits.toml", LONG[1::2], trials=1, study_dir="whole").trials[0]
    assert [(trial["number"], trial["state"], trial["epochs"]) for trial in result["trials"]] == [
        (0, "complete", 30)
    ]
    assert result["trials"][0]["value"] == whole.value
    assert epochs(run) == epochs(whole.directory)


def test_two_processes_share_one_study(write: Any) -> None:
    write()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, *names],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for names in (("ready-a", "ready-b"), ("ready-b", "ready-a"))
    ]
    mine, theirs = (json.loads(finished(process).splitlines()[-1]) for process in processes)
    assert mine
    assert theirs
    assert sorted(mine + theirs) == [0, 1, 2, 3, 4, 5]
    trials = sweep("digits.toml", ["num_epochs=4"], trials=6).trials
    assert len(trials) == 6
    assert {trial.state for trial in trials} <= {"complete", "pruned"}
    assert len({trial.params["optimizer.lr"] for trial in trials}) == 6


def test_best_checkpoint_loads_where_only_argus_core_is_imported(write: Any) -> None:
    write(CHOICES)
    result = sweep("digits.toml", trials=1)
    command = [sys.executable, "-c", READER, str(result.best_checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["CNN", ["SGD", {"lr": 0.1}]]
