"""A run in a run directory goes on where it was stopped."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from networks import Net, same_weights
from rewritten import changed_progress
from small_runs import contents, small_config, small_registry
from torch import Tensor

import argus_core
from argus_core import CheckpointError, ConfigError, State, StateMismatchError, UnknownNameError, load_model
from argus_core.callbacks.written import times_resumed
from argus_core.config import read_config
from argus_core.errors import ArgusWarning
from argus_core.registry.diagnosis import naming_missing
from argus_core.runs.directory import RunDirectory
from argus_core.runs.run import resume, train
from argus_core.storage import read_header
from argus_core.training.interruption import check_interruption
from argus_core.training.newest import find_checkpoint


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, usual_signals: None) -> Iterator[Path]:
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('data.train="pictures"', "^no dataset named 'pictures'"),
        ('callbacks="telegraph"', "^no callback named 'telegraph'"),
    ],
)
def test_run_whose_packages_are_gone_says_what_to_install(folder: Path, change: str, message: str) -> None:
    directory = stopped(folder)
    versions = directory / "versions.json"
    record = json.loads(versions.read_text("utf-8"))
    record["providers"] = {"gone-of-this-test": "2.1", "pytest": "0.1"}
    versions.write_text(json.dumps(record), "utf-8")
    action = r"the run used packages that are not installed: pip install 'gone-of-this-test==2\.1'$"
    with pytest.raises(UnknownNameError, match=f"{message} .*; {action}"):
        resume(directory, [change])


@pytest.mark.parametrize("providers", [{}, {"pytest": "0.1"}, None, ["gone"]])
def test_unknown_name_stays_as_it_is_where_no_package_is_gone(folder: Path, providers: Any) -> None:
    directory = stopped(folder)
    versions = directory / "versions.json"
    record = json.loads(versions.read_text("utf-8"))
    versions.write_text(json.dumps({**record, "providers": providers}), "utf-8")
    with pytest.raises(UnknownNameError, match=r"^no dataset named 'pictures' .*; install its package"):
        resume(directory, ['data.train="pictures"'])


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


def test_versions_are_those_of_the_newest_part_of_a_run_and_name_the_earlier_ones(folder: Path) -> None:
    path = stopped(folder) / "versions.json"
    now = json.loads(path.read_text("utf-8"))
    resume(path.parent)
    assert json.loads(path.read_text("utf-8")) == now
    older, oldest = {**now, "torch": "2.11.0"}, {**now, "torch": "2.10.0"}
    path.write_text(json.dumps({**older, "before": [oldest]}), "utf-8")
    resume(path.parent, ["num_epochs=4"])
    assert json.loads(path.read_text("utf-8")) == {**now, "before": [older, oldest]}


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        ("x", 1),
        (None, 1),
        ([[], {"a": math.nan}, {"b": {"c": {}}}], 1),
        ([{"a": None, "b": {"c": "d"}}] * 500, 20),
    ],
)
def test_earlier_versions_stay_few_whatever_the_file_held(folder: Path, before: Any, kept: int) -> None:
    path = stopped(folder) / "versions.json"
    was = {**json.loads(path.read_text("utf-8")), "torch": "2.10.0"}
    path.write_text(json.dumps({**was, "before": before}), "utf-8")
    resume(path.parent)
    assert json.loads(path.read_text("utf-8"))["before"][0] == was
    assert len(json.loads(path.read_text("utf-8"))["before"]) == kept


def test_earlier_versions_that_fill_the_file_make_room(folder: Path) -> None:
    path = stopped(folder) / "versions.json"
    was = {**json.loads(path.read_text("utf-8")), "torch": "2.10.0"}
    path.write_text(json.dumps({**was, "before": [{"a": "z" * 300_000}] * 3}), "utf-8")
    resume(path.parent)
    assert json.loads(path.read_text("utf-8"))["before"] == [was, {"a": "z" * 300_000}]
    assert RunDirectory(path.parent).holds_run()


def test_changes_are_kept_with_the_run(folder: Path) -> None:
    train(read_config(small_config(folder)))
    resume(Path("run"), ["num_epochs=4"])
    assert read_config(Path("run/config.toml")).fit["num_epochs"] == 4
    resume(Path("run"))  # has nothing left to do
    assert [line["epoch"] for line in history(Path("run"))] == [0, 1, 2, 3]
    with pytest.warns(argus_core.errors.ArgusWarning, match=r"params\['optimizer'\] was .* which holds"):
        resume(Path("run"), ["optimizer.lr=0.05", "num_epochs=5"])
    resume(Path("run"), ["num_epochs=6"])  # nothing has changed since then
    assert [line["lr"] for line in history(Path("run"))] == [0.1] * 4 + [0.05] * 2


def test_changes_that_are_refused_are_not_kept(folder: Path) -> None:
    train(read_config(small_config(folder)))
    before = Path("run/config.toml").read_text()
    with pytest.raises(argus_core.StateMismatchError, match="trained with optimizer 'SGD'"):
        resume(Path("run"), ["optimizer=Adam", "num_epochs=4"])
    assert Path("run/config.toml").read_text() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "seed=1",
            r"--set seed=1: a resumed run keeps 0, as the order of its .* follow from its first seed; leave",
        ),
        ("fit.seed=1", "--set seed=1: a resumed run keeps 0"),
        (
            "run_dir=other",
            "--set run_dir=other: a resumed run keeps 'run', as a resumed run stays in run; copy",
        ),
        (
            "model.name=Other",
            "--set model.name=Other: a resumed run keeps 'Model', as its ",
        ),
    ],
)
def test_changes_that_could_have_no_effect_are_refused(folder: Path, change: str, message: str) -> None:
    train(read_config(small_config(folder)))
    with pytest.raises(ConfigError, match=message):
        resume(Path("run"), ["num_epochs=4", change])
    resume(Path("run"), ["num_epochs=4", "seed=0", "run_dir=run"])  # as they are


def test_a_run_that_was_moved_goes_on_where_it_is(folder: Path) -> None:
    train(read_config(small_config(folder)))
    Path("run").rename("moved")
    resume(Path("moved"), ["num_epochs=4"])
    assert len(history(Path("moved"))) == 4
    assert not Path("run").exists()


def test_other_data_are_told(folder: Path) -> None:
    train(read_config(small_config(folder)))
    with pytest.warns(argus_core.errors.ArgusWarning) as told:
        resume(Path("run"), ["num_epochs=4", "data.train.samples=40", "shuffle=false"])
    length, data = (str(each.message) for each in told)
    assert "an epoch had 4 batches and has 5" in length
    assert data.startswith("the run in run resumes with other data: data.train was ('points', ")
    assert "data.shuffle was True and is False, which holds from here" in data


@pytest.mark.parametrize(
    ("change", "monitor", "is_another_measure"),
    [
        ('data.val=["points", { samples = 5 }]', "val_loss", True),
        ('data.val=["points", { samples = 5 }]', "train_loss", False),
        ("data.train.samples=40", "train_loss", True),
        ("data.train.samples=40", "val_loss", False),
        ('loss=["CrossEntropyLoss", { label_smoothing = 0.1 }]', "val_loss", True),
        ('loss=["CrossEntropyLoss", { label_smoothing = 0.1 }]', "val_accuracy", False),
        ('metrics=[["accuracy", { ignore_index = 9 }]]', "val_accuracy", True),
    ],
)
def test_best_checkpoint_of_another_measure_is_told(
    folder: Path, change: str, monitor: str, is_another_measure: bool
) -> None:
    train(read_config(small_config(folder), [f'monitor="{monitor}"']))
    with pytest.warns(ArgusWarning) as told:
        resume(Path("run"), ["num_epochs=4", change])
    messages = [str(each.message) for each in told]
    key = {"loss": "model.loss", "metrics": "fit.metrics"}.get(change.partition("=")[0], change[:8])
    expected = f"run/checkpoints/best.safetensors was chosen by {monitor} before {key}"
    assert any(each.startswith(expected) for each in messages) is is_another_measure


def test_a_run_goes_on_from_one_of_its_checkpoints(folder: Path) -> None:
    train(read_config(small_config(folder)))
    assert resume(Path("run/checkpoints/last.safetensors"), ["num_epochs=4"]).metrics["val_loss"] > 0


def test_a_run_goes_on_from_a_checkpoint_that_is_named_from_its_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = train(read_config(small_config(folder))).directory
    monkeypatch.chdir(directory.checkpoints)
    assert resume(Path("last.safetensors"), ["num_epochs=4"]).directory.root == directory.root


def test_a_checkpoint_of_another_run_among_its_own_is_not_resumed(folder: Path) -> None:
    small_config(folder)
    for name, epochs in (("run", 3), ("other", 5)):
        train(read_config(Path("small.toml"), [f'run_dir="{name}"', f"num_epochs={epochs}"]))
    shutil.copy("other/checkpoints/last.safetensors", "run/checkpoints/copied.safetensors")  # the newest
    first = history(Path("run"))
    with pytest.warns(ArgusWarning, match="of 2 runs; the run that last.safetensors is of is resumed"):
        resume(Path("run"), ["num_epochs=4"])
    assert [line["epoch"] for line in history(Path("run"))] == [0, 1, 2, 3]
    assert history(Path("run"))[:3] == first


@pytest.mark.parametrize("path", ["nowhere", ".", "small.toml"])
def test_what_is_no_run_is_refused(folder: Path, path: str) -> None:
    small_config(folder)
    what = "does not exist" if path == "nowhere" else "is not a run directory"
    with pytest.raises(ConfigError, match=rf"^{path} {what}; give a folder with config.toml and versions"):
        resume(Path(path))


def test_a_checkpoint_of_pytorch_argus_is_not_resumed_but_converted() -> None:
    with pytest.raises(
        ConfigError, match=r"of pytorch-argus cannot be resumed; convert it \(argus convert\)"
    ):
        resume(Path("old.pth"))


def test_a_folder_near_runs_is_refused_with_up_to_three_of_them(folder: Path) -> None:
    train(read_config(small_config(folder), ["num_epochs=1", "run_dir=runs/a"]))
    for name in "bcd":
        shutil.copytree("runs/a", f"runs/{name}")
    (folder / "runs" / "other").mkdir()
    shutil.copytree("runs/a", "runs/digits")
    cases = {
        "runs": "runs/a, runs/b, runs/c, ...",
        "runs/a/checkpoints": "runs/a",
        "runs/digit": "runs/digits",
    }
    for near, told in cases.items():
        with pytest.raises(ConfigError, match=rf"^{near} is not a run directory; give one that is: {told}$"):
            resume(Path(near))


def test_a_run_without_its_last_checkpoint_is_refused(folder: Path) -> None:
    train(read_config(small_config(folder)))
    Path("run/checkpoints/last.safetensors").unlink()
    told = r"holds no checkpoint that a run can resume from .* start it over with argus train and --overwrite"
    with pytest.raises(argus_core.CheckpointError, match=told):
        resume(Path("run"))


def test_a_configuration_of_a_run_that_extends_a_file_is_refused(folder: Path) -> None:
    secret = folder / "secret.toml"
    secret.write_text("[fit]\nnum_epochs = 99\n")
    config = stopped(folder) / "config.toml"
    before = 'extends = "' + str(secret) + '"\n' + config.read_text()
    config.write_text(before)
    with pytest.raises(ConfigError, match=r"config.toml has extends, but .* reads no other file; remove"):
        resume(config.parent)
    assert config.read_text() == before


def test_the_last_checkpoint_is_written_as_often_as_is_said(folder: Path) -> None:
    seen: list[int] = []

    class Note(argus_core.Callback):
        def checkpoint_saved(self, state: State) -> None:
            if state.checkpoint_path and state.checkpoint_path.name == "last.safetensors":
                seen.append(state.global_step)

    argus_core.register("callback", "note", Note)
    train(read_config(small_config(folder, 'checkpoint_every = "2up"\ncallbacks = ["note"]\n')))
    assert seen == [2, 4, 6]


def test_of_versions_without_end_the_first_are_told(folder: Path) -> None:
    directory = RunDirectory(folder / "many")
    with directory.held():
        directory.create(
            "", {"argus-torch": "1", "providers": {f"gone-{index}": "1" for index in range(20_000)}}
        )
    told = r"pip install 'gone-0==1'.*, and 19,9\d\d more packages, listed once these are installed$"
    with pytest.raises(UnknownNameError, match=told), naming_missing(directory.providers):
        raise UnknownNameError("no nn_module named 'zzz'")


def _fault(event: str, epoch: int) -> Any:
    """Return a callback that fails once, in an event of an epoch."""
    left = [epoch]

    def fail(state: State) -> None:
        if state.epoch in left:
            left.clear()
            raise RuntimeError("it does not fit")

    return argus_core.on_event(event)(fail)


@pytest.mark.parametrize(
    ("event", "epoch"),
    [("iteration_complete", 0), ("validation_start", 0), ("epoch_complete", 0), ("validation_start", 1)],
)
def test_an_exception_between_updates_loses_nothing_of_the_run(
    event: str, epoch: int, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = train(read_config(small_config(folder)))
    fault = _fault(event, epoch)
    with pytest.raises(RuntimeError, match="it does not fit"):
        train(read_config(Path("small.toml"), ['run_dir="failed"']), callbacks=[fault])
    saved = "saved failed/checkpoints/last.safetensors after RuntimeError; the run resumes from there"
    assert saved in caplog.messages
    steps: list[int] = []
    note = argus_core.on_event("resumed")(lambda state: steps.append(state.global_step))
    resumed = resume(Path("failed"), callbacks=[fault, note])
    assert steps == [1 if event == "iteration_complete" else 2 * (epoch + 1)]
    assert resumed.metrics == whole.metrics
    assert history(Path("failed")) == history(whole.directory.path)


def test_a_start_that_fails_leaves_the_last_checkpoint_as_it_is(folder: Path) -> None:
    directory = train(read_config(small_config(folder))).directory
    before = directory.last.read_bytes()

    class Failing(argus_core.Callback):
        @argus_core.hookimpl(tryfirst=True)
        def start(self, state: State) -> None:
            raise RuntimeError("it does not fit")

    with pytest.raises(RuntimeError, match="it does not fit"):
        resume(directory.path, ["num_epochs=4"], callbacks=[Failing()])
    assert directory.last.read_bytes() == before


def test_an_exception_in_the_middle_of_a_later_epoch_leaves_the_checkpoint_of_the_epoch_before(
    folder: Path,
) -> None:
    before: list[bytes] = []
    last = Path("run/checkpoints/last.safetensors")
    keep = argus_core.on_epoch_start(lambda state: before.append(last.read_bytes() if state.epoch else b""))
    fault = _fault("iteration_complete", 1)
    with pytest.raises(RuntimeError, match="it does not fit"):
        train(read_config(small_config(folder)), callbacks=[keep, fault])
    assert last.read_bytes() == before[1]
    with pytest.warns(ArgusWarning, match="an epoch had 4 batches and has 8|resumes with other data"):
        resume(Path("run"), ["data.batch_size=4"])  # which the middle of an epoch would not take


def test_other_batches_in_the_middle_of_an_epoch_are_refused_with_the_ways_to_go_on(folder: Path) -> None:
    path = stopped(folder)
    ways = r"the same data and batch size to the end of that epoch \(num_epochs=2\) and change it afterwards"
    with pytest.raises(StateMismatchError, match=f"{ways}$"):
        resume(path, ["batch_size=4"])
    resume(path, ["num_epochs=2"])
    with pytest.warns(ArgusWarning, match="an epoch had 4 batches and has 8|resumes with other data"):
        resume(path, ["batch_size=4", "num_epochs=3"])


class _Failing(Net):
    def forward(self, input: Tensor) -> Tensor:
        if input.shape[0] < 8:  # the last batch
            raise RuntimeError("it does not fit")
        return super().forward(input)


def test_an_exception_in_an_update_saves_nothing(folder: Path) -> None:
    argus_core.register("nn_module", "failing", _Failing)
    with pytest.raises(RuntimeError, match="it does not fit"):
        train(read_config(small_config(folder), ['nn_module="failing"', "step=[]"]))
    assert not list(Path("run/checkpoints").iterdir())


def test_a_disk_that_takes_no_checkpoint_is_told_once(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    fill = argus_core.on_epoch_start(lambda state: monkeypatch.setattr(os, "fsync", full))
    with pytest.raises(CheckpointError, match="No space left on device"):
        train(read_config(small_config(folder)), callbacks=[fill])
    assert "could not save" not in caplog.text


def test_run_that_was_resumed_from_an_earlier_checkpoint_goes_on_from_what_it_has_saved_since(
    folder: Path,
) -> None:
    keep = 'callbacks = [["checkpoint", { optimizer_state = true }]]\n'
    directory = train(read_config(small_config(folder, keep), ["num_epochs=6"])).directory
    early = directory.checkpoints / "model-001.safetensors"
    with pytest.warns(ArgusWarning, match=r"model-001\.safetensors has changed"):
        resume(early, ["optimizer.lr=0.01", "num_epochs=3"])
    with pytest.warns(ArgusWarning, match=r"was \('SGD', {'lr': 0\.01}\)"):
        again = resume(directory.path, ["optimizer.lr=0.02", "num_epochs=4"])
    rates = [json.loads(line)["lr"] for line in directory.metrics.read_text("utf-8").splitlines()]
    assert rates == [0.1, 0.1, 0.01, 0.02]
    assert again.metrics["val_loss"] == load_position(directory.last)["metrics"]["val_loss"]


def test_run_that_was_resumed_from_an_earlier_checkpoint_twice_goes_on_from_the_newest(folder: Path) -> None:
    keep = 'callbacks = [["checkpoint", { optimizer_state = true }]]\n'
    directory = train(read_config(small_config(folder, keep), ["num_epochs=5"])).directory
    for epochs in (4, 3):
        resume(directory.checkpoints / "model-001.safetensors", [f"num_epochs={epochs}"])
    assert load_position(find_checkpoint(directory.root, directory.last))["epoch"] == 2
    os.utime(directory.checkpoints / "model-004.safetensors")  # as a copy of the folder may have it
    assert load_position(find_checkpoint(directory.root, directory.last))["epoch"] == 2


def test_best_checkpoint_after_the_one_that_a_run_resumes_from_stays_until_it_is_beaten(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep = 'callbacks = [["checkpoint", { optimizer_state = true }]]\nmetrics_on_train = true\n'
    config = read_config(small_config(folder, keep), ['monitor="train_loss"', "num_epochs=4"])
    directory = train(config).directory
    before = load_position(directory.best)
    assert before["epoch"] == 3
    with pytest.warns(ArgusWarning, match="has changed"):
        result = resume(directory.checkpoints / "model-000.safetensors", ["optimizer.lr=5.0", "num_epochs=3"])
    assert load_position(directory.best) == before
    assert (result.best_epoch, result.best_value) == (3, before["metrics"]["train_loss"])
    assert "best.safetensors is of epoch 4, after the checkpoint that the run resumes from" in caplog.text


def test_best_checkpoint_that_was_removed_measures_nothing(folder: Path) -> None:
    directory = train(read_config(small_config(folder))).directory
    directory.best.unlink()
    with pytest.warns(ArgusWarning, match="has changed"):
        result = resume(directory.path, ["optimizer.lr=5.0", "num_epochs=4"])
    assert (result.best_epoch, load_position(directory.best)["epoch"]) == (3, 3)


def as_an_earlier_version_had_it(progress: dict[str, Any]) -> dict[str, Any]:
    """Return the position of a run whose own callbacks had other names and less state."""
    states = dict(progress["callback"])
    best = states.pop("best_checkpoint")
    epoch = best.pop("best_epoch")
    states |= {"monitor_checkpoint": best, "checkpoint": states.pop("last_checkpoint")}
    states |= {"run": {"best_epoch": epoch}}
    states["progress"] = {key: states["progress"][key] for key in ("lr", "skipped_before")}
    return {**progress, "callback": states}


def test_run_of_an_earlier_version_keeps_its_best_checkpoint(folder: Path) -> None:
    directory = train(read_config(small_config(folder), ["monitor=val_loss"])).directory
    changed_progress(directory.last, as_an_earlier_version_had_it)
    before = load_position(directory.best)
    with pytest.warns(ArgusWarning, match="has changed"):
        result = resume(directory.path, ["optimizer.lr=50.0", "num_epochs=4"])
    assert load_position(directory.best) == before
    assert result.best_epoch == before["epoch"]


@pytest.mark.parametrize(
    "callback", ['["checkpoint", {optimizer_state=true}]', '["monitor_checkpoint", {monitor="train_loss"}]']
)
def test_files_of_a_callback_that_a_resumed_run_leaves_out_stay(callback: str, folder: Path) -> None:
    directory = train(read_config(small_config(folder), [f"callbacks=[{callback}]"])).directory
    files = {*directory.checkpoints.glob("model-*")}
    assert files
    resume(directory.path, ["callbacks=[]", "num_epochs=4"])
    assert {*directory.checkpoints.glob("model-*")} == files


def test_callback_that_a_resumed_run_has_more_changes_nothing_of_its_best_checkpoint(folder: Path) -> None:
    directory = train(read_config(small_config(folder), ["monitor=val_loss"])).directory
    before = load_position(directory.best)
    more = 'callbacks=[["monitor_checkpoint", {monitor="val_accuracy"}]]'
    with pytest.warns(ArgusWarning, match="has changed"):
        result = resume(directory.path, [more, "optimizer.lr=50.0", "num_epochs=4"])
    assert load_position(directory.best) == before
    assert result.best_epoch == before["epoch"]


@pytest.mark.parametrize("every", ["10ep", "4up", "60min"])
def test_end_of_a_run_is_kept_whatever_the_cadence(every: str, folder: Path) -> None:
    whole = train(read_config(small_config(folder), ["num_epochs=4", 'run_dir="whole"']))
    directory = train(read_config(Path("small.toml"), [f'checkpoint_every="{every}"'])).directory
    assert load_position(directory.last)["global_step"] == 6
    assert resume(directory.path, ["num_epochs=4"]).metrics == whole.metrics
    assert load_position(directory.last)["global_step"] == 8


def test_run_that_resumes_from_an_earlier_checkpoint_and_is_stopped_at_once_has_lost_nothing(
    folder: Path,
) -> None:
    keep = 'callbacks = [["checkpoint", { optimizer_state = true }], "logging_to_csv"]\n'
    directory = train(read_config(small_config(folder, keep))).directory
    before = contents(directory.path)
    stop = argus_core.on_epoch_start(lambda state: signal.raise_signal(signal.SIGTERM))
    fail = argus_core.on_iteration_start(lambda state: check_interruption())
    with pytest.raises(SystemExit):
        resume(directory.checkpoints / "model-000.safetensors", callbacks=[stop, fail])
    assert {**contents(directory.path), "log.txt": before["log.txt"]} == before


def test_table_of_a_run_that_resumes_from_an_earlier_checkpoint_has_each_epoch_once(folder: Path) -> None:
    keep = 'callbacks = [["checkpoint", { optimizer_state = true }], "logging_to_csv"]\n'
    directory = train(read_config(small_config(folder, keep))).directory
    whole = history(directory.path)
    rows = (directory.path / "metrics.csv").read_text().count("\n")
    resume(directory.checkpoints / "model-000.safetensors")
    assert history(directory.path) == whole
    assert (directory.path / "metrics.csv").read_text().count("\n") == rows


def test_table_of_a_resumed_run_marks_no_epoch_that_is_not_the_best(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = train(read_config(small_config(folder), ['monitor="val_loss"'])).directory
    assert "* best val_loss" in capsys.readouterr().out
    with pytest.warns(ArgusWarning, match="has changed"):
        resume(directory.path, ["optimizer.lr=50.0", "num_epochs=4"])
    shown = capsys.readouterr().out
    assert "4/4" in shown
    assert "* best" not in shown


@pytest.mark.parametrize("count", [True, -1, 2**70, "9", None])
def test_count_of_resumptions_that_argus_core_never_writes_counts_as_none(folder: Path, count: Any) -> None:
    assert times_resumed({"run": {"times_resumed": count}}) == 0


def load_position(path: Path) -> dict[str, Any]:
    run: dict[str, Any] = read_header(path).manifest["run"]
    return run


def test_run_of_so_many_updates_resumes_with_more_of_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_config(folder)
    path.write_text(path.read_text("utf-8").replace("num_epochs = 3", "num_updates = 3"), "utf-8")
    whole = train(read_config(path, ["num_updates=5", 'run_dir="whole"']))
    assert "num_updates=5 ended the run after 5 updates, in epoch 3" in capsys.readouterr().out
    first = train(read_config(path))
    assert first.best_epoch is not None
    assert "num_epochs" not in read_config(first.directory.config).fit
    resumed = resume(first.directory.path, ["num_updates=5", "max_time=3h"])
    assert resumed.metrics == whole.metrics
    assert same_weights(load_model(resumed.directory.last), load_model(whole.directory.last))
    assert "num_updates=5 ended the run after 5 updates" in resumed.directory.log.read_text("utf-8")


def test_lengths_of_a_configuration_reach_the_run(folder: Path) -> None:
    lengths = ["validate_every=1up", "log_every=2up", "limit_train=2", "limit_val=0.5", "num_epochs=1"]
    result = train(read_config(small_config(folder), lengths))
    lines = [json.loads(line) for line in result.directory.metrics.read_text("utf-8").splitlines()]
    assert [(line.get("phase"), line["global_step"]) for line in lines] == [
        ("val", 1), ("train", 2), (None, 2)
    ]  # fmt: skip
    for change in ("limit_train=0", "limit_val=1.5", "validate_every=0ep", "log_every=often", "max_time=5ep"):
        key = change.partition("=")[0]
        with pytest.raises(ConfigError, match=rf"\[fit\] {key} is .*; give "):
            read_config(small_config(folder), [change])


@pytest.mark.parametrize("change", ["num_epochs=2", "data.batch_size=4"])
@pytest.mark.filterwarnings("ignore::argus_core.ArgusWarning")
def test_a_complete_run_keeps_its_configuration(folder: Path, change: str) -> None:
    train(read_config(small_config(folder)))
    before = Path("run/config.toml").read_text()
    resume(Path("run"), [change])
    assert Path("run/config.toml").read_text() == before
