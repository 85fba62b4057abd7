"""A dry run of a configuration, and runs with validation sets by name."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_runs import contents, small_config

import argus_core
from argus_core import ConfigError, State, UnknownNameError
from argus_core.config import read_config
from argus_core.errors import ArgusError
from argus_core.runs.dry_run import dry_run
from argus_core.runs.run import resume, train

SETS = """
[data.val.same]
name = "points"
split = "val"
[data.val.other]
name = "points"
split = "train"
"""
TEST = 'data.test=["points", { split = "test" }]'


@pytest.fixture(autouse=True)
def folder(
    small_folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Work in the folder of the small configuration, and check that no temporary folder is left."""
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield small_folder
    assert [*temporary.glob("argus-*")] == []


def with_sets(folder: Path) -> Path:
    path = small_config(folder, name="sets.toml")
    text = path.read_text("utf-8").replace('val = ["points", { split = "val" }]\n', "")
    path.write_text(text.replace('monitor = "val_accuracy"\n', "") + SETS, "utf-8")
    return path


# Sets.


def test_a_run_reports_and_resumes_all_sets(folder: Path) -> None:
    config = with_sets(folder)
    changes = ['val_callbacks=["metrics_jsonl"]', "num_epochs=2"]
    whole = train(read_config(config, changes))
    assert whole.monitor == "val_same_loss"
    lines = (folder / "run" / "metrics.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["val_other_accuracy"] for line in lines][-1] == whole.metrics[
        "val_other_accuracy"
    ]
    for name in ("same", "other"):
        own = (folder / "run" / "val" / name / "metrics.jsonl").read_text("utf-8").splitlines()
        assert [json.loads(line)["epoch"] for line in own] == [0, 1]
    longer = resume(folder / "run", ["num_epochs=3"])
    again = train(read_config(config, [*changes, "num_epochs=3", "run_dir=again"]))
    assert longer.metrics == again.metrics


def test_metric_of_a_set_may_be_the_monitor(folder: Path) -> None:
    result = train(read_config(with_sets(folder), ["monitor=val_other_accuracy", "num_epochs=1"]))
    assert result.best_value == result.metrics["val_other_accuracy"]
    with pytest.raises(ArgusError, match="choose 'val_same_loss' or 'val_other_loss'"):
        train(read_config(with_sets(folder), ["monitor=val_loss"]), overwrite=True)


# Dry runs.


def test_a_dry_run_tries_all_and_leaves_nothing(folder: Path) -> None:
    changes = [
        TEST,
        'callbacks=["logging_to_csv", ["checkpoint", { dir_path = "own", every = "9ep" }]]',
        'val_callbacks=["metrics_jsonl"]',
        "num_epochs=1000",
    ]
    config = read_config(with_sets(folder), changes)
    before = contents(folder)
    result = dry_run(config)
    assert result.batches == {"train": 2, "val_same": 1, "val_other": 1, "test": 1}
    assert {"val_other_accuracy", "test_loss"} <= result.metrics.keys()
    assert result.checkpoint_size > 0
    assert contents(folder) == before


def failing(name: str, event: str) -> None:
    def fail(self: Any, state: State) -> None:
        raise RuntimeError(f"fails in {event}")

    argus_core.register("callback", name, type(name, (argus_core.Callback,), {event: fail}))


def broken_data() -> Any:
    return [(1, 2, 3)]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (['callbacks=["late"]'], RuntimeError, "fails in epoch_complete"),
        (['callbacks=["last"]'], RuntimeError, "fails in complete"),
        (['data.test=["broken"]'], ArgusError, "a batch is a list of 3, not a pair"),
        (['data.test=["missing"]'], UnknownNameError, "no dataset named 'missing'"),
        (["monitor=val_f1"], ArgusError, r"monitors 'val_f1', which is not"),
        (['metrics=["accuracy", "no_metric"]'], UnknownNameError, "no metric named 'no_metric'"),
        (
            ['lr_scheduler=["OneCycleLR", { max_lr = 1.0, total_steps = 2 }]'],
            ArgusError,
            "has 2 steps left, and the run makes up to 3",
        ),
    ],
)
def test_a_dry_run_finds_what_would_fail_later(
    folder: Path, changes: list[str], error: type, message: str
) -> None:
    failing("late", "epoch_complete")
    failing("last", "complete")
    argus_core.register("dataset", "broken", broken_data)
    before = contents(folder)
    with pytest.raises(error, match=message):
        dry_run(read_config(Path("small.toml"), changes))
    assert contents(folder) == before


def test_a_signal_ends_a_dry_run_while_its_data_are_built(folder: Path, usual_signals: None) -> None:
    def slow() -> None:
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("the signal has not ended the run")

    argus_core.register("dataset", "slow", slow)
    before = contents(folder)
    with pytest.raises(SystemExit):
        dry_run(read_config(Path("small.toml"), ['train="slow"']))
    assert contents(folder) == before


def test_a_dry_run_that_a_signal_ends_leaves_nothing(folder: Path, usual_signals: None) -> None:
    argus_core.register(
        "callback",
        "stop",
        lambda: argus_core.on_epoch_start(lambda state: signal.raise_signal(signal.SIGTERM)),
    )
    with pytest.raises(SystemExit) as ended:
        dry_run(read_config(Path("small.toml"), ['callbacks=["stop"]']))
    assert ended.value.code == 143


def test_a_dry_run_touches_nothing_of_an_earlier_run(folder: Path) -> None:
    train(read_config(Path("small.toml"), ["num_epochs=1"]))
    before = contents(folder)
    dry_run(read_config(Path("small.toml")))
    dry_run(read_config(Path("run/config.toml")))
    assert contents(folder) == before
    with pytest.raises(ConfigError, match="already holds a run"):
        train(read_config(Path("small.toml")))
