from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import argus_core
from argus_core.cli import main

GRID = '"optimizer.lr" = { choices = [0.1, 0.3] }'


def argus(*args: str) -> Result:
    return CliRunner().invoke(main, args, catch_exceptions=False)


def test_command_is_found_by_name() -> None:
    component = argus_core.resolve("command", "sweep")
    assert (component.provider, component.target) == ("argus-optuna", "argus_optuna.command:command")


def test_help_has_examples_and_lists_every_option() -> None:
    output = argus("sweep", "--help").output
    assert "argus sweep digits.toml" in output.partition("Examples:")[2]
    assert {"--trials", "--timeout", "--study-dir", "--set", "--device", "--json"} <= set(
        re.findall(r"--[\w-]+", output)
    )


@pytest.mark.parametrize("args", [["--help"], ["sweep", "--help"], ["sweep", "nowhere.toml"]])
def test_no_torch_and_no_optuna_before_it_searches(args: list[str]) -> None:
    code = (
        "import sys\n"
        "from argus_core.cli import main\n"
        f"try: main({args!r}, prog_name='argus')\n"
        "except SystemExit: pass\n"
        "unwanted = {'torch', 'optuna', 'sqlalchemy', 'numpy'} & set(sys.modules)\n"
        "assert not unwanted, unwanted\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_sweep_ends_with_a_table_and_where_the_best_is(write: Any) -> None:
    write(GRID, 'sampler = "grid"')
    lines = argus("sweep", "digits.toml", "--set", "num_epochs=1").output.splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("study: "))
    assert lines[first] == "study: runs/digits-sweep (2 complete)"
    assert lines[first + 1].split() == ["trial", "val_accuracy", "optimizer.lr"]
    assert [line.split()[0] for line in sorted(lines[first + 2 : first + 4])] == ["0", "1"]
    assert re.fullmatch(r"best val_accuracy: 0\.\d+ \(trial \d: optimizer\.lr=0\.[13]\)", lines[first + 4])
    assert re.fullmatch(r"best run: runs/digits-sweep/trial-000[01]", lines[first + 5])
    assert lines[first + 6] == "best checkpoint: runs/digits-sweep/best.safetensors"
    assert len(lines) == first + 7
    assert [line.split(":")[0] for line in lines if line.startswith("trial ") and ":" in line] == [
        "trial 0",
        "trial 1",
    ]


def test_sweep_is_read_by_programs_as_json(write: Any) -> None:
    write(GRID)
    result = argus(
        "sweep", "digits.toml", "--trials", "1", "--set", "num_epochs=1", "--study-dir", "s", "--json"
    )
    record = json.loads(result.stdout)
    assert set(record) == {"study_dir", "monitor", "better", "best", "best_checkpoint", "trials"}
    assert (record["study_dir"], record["monitor"], record["better"], record["best"]) == (
        "s",
        "val_accuracy",
        "max",
        0,
    )
    assert Path(record["best_checkpoint"]).exists()
    assert Path(record["trials"][0]["checkpoint"]).exists()
    assert "trial 0: " in result.stderr


def test_sweep_without_a_complete_trial_says_so(write: Any) -> None:
    write(GRID)
    output = argus("sweep", "digits.toml", "--timeout", "1e-9").output
    assert output.splitlines()[-2:] == ["study: runs/digits-sweep (no trials)", "no trial is complete"]


def test_trial_that_was_pruned_or_failed_is_told(write: Any) -> None:
    write(GRID, 'pruner = ["threshold", { lower = 2.0 }]')
    assert "trial 0: pruned  (optimizer.lr=" in argus("sweep", "digits.toml", "--trials", "1").output
    result = argus(
        "sweep", "digits.toml", "--trials", "1", "--study-dir", "other", "--set", "data.train.val_fraction=2"
    )
    assert result.exit_code == 1
    assert "trial 0: failed: " in result.stdout
    assert re.search(r"^error: all 1 trials of other have failed, trial 0 with ", result.stderr, re.MULTILINE)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("nowhere.toml",), "error: no configuration 'nowhere.toml'; "),
        (("digits.toml", "--set", "sweep.trails=3"), r"has 'trails'; did you mean 'trials'?"),
        (("digits.toml", "--set", "optimizr=SGD"), "there is no key 'optimizr'; did you mean 'optimizer'?"),
        (("digits.toml", "--trials", "0"), "trials is 0; give an integer of at least 1"),
        (("digits.toml", "--timeout", "-1"), "timeout is -1.0; give seconds, a number above 0"),
        (("digits.toml", "--study-dir", ""), "study_dir is ''; give a folder"),
        (("digits.toml", "--device", "zzz"), "zzz"),
    ],
)
def test_what_is_refused_is_one_line(write: Any, args: tuple[str, ...], message: str) -> None:
    write()
    result = argus("sweep", *args)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("signal", "status", "last"), [(KeyboardInterrupt(), 130, ["interrupted"]), (SystemExit(143), 143, [])]
)
def test_interrupted_sweep_says_how_to_go_on(
    write: Any, monkeypatch: pytest.MonkeyPatch, signal: BaseException, status: int, last: list[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise signal

    write(GRID, name="my digits.toml")
    args = ("sweep", "--set", "num_epochs=1", "my digits.toml", "--trials", "2", "--device", "cpu", "--json")
    with monkeypatch.context() as patch:
        patch.setattr("argus_optuna.search.train", interrupted)
        result = argus(*args, "--set", "optimizer.lr=0.5")
    assert (result.exit_code, result.stdout) == (status, "")
    line, *rest = result.stderr.splitlines()[-1 - len(last) :]
    assert rest == last
    _, _, again = line.partition("the study can be resumed: ")
    assert again == (
        "argus sweep 'my digits.toml' --trials 2 "
        "--set num_epochs=1 --set optimizer.lr=0.5 --device cpu --json"
    )
    record = json.loads(argus(*shlex.split(again)[1:]).stdout)
    assert [trial["state"] for trial in record["trials"]] == ["complete", "complete"]


def test_train_leaves_the_section_alone(write: Any) -> None:
    write()
    result = argus("train", "digits.toml", "--set", "num_epochs=1")
    assert result.exit_code == 0
    assert "sweep" not in Path("runs/digits/config.toml").read_text("utf-8")
