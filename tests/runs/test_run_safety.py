"""A run writes to its own directory alone, one process at a time, and never loses the run that was there."""

from __future__ import annotations

import contextlib
import os
import re
import reprlib
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from processes import sent_by
from programs import run_program
from small_runs import contents, small_registry
from torch.utils.data import TensorDataset

import argus_core
from argus_core import State, cli
from argus_core.config import read_config
from argus_core.errors import ArgusError, ArgusWarning, ConfigError
from argus_core.runs.run import resume, train

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has neither links for all nor these signals")

RUN_FILES = [
    "metrics.jsonl",
    "log.txt",
    "test.json",
    "config.toml",
    "versions.json",
    "checkpoints/best.safetensors",
    "checkpoints/last.safetensors",
]


@pytest.fixture(autouse=True)
def folder(small_folder: Path) -> Path:
    return small_folder


def run(*changes: str, overwrite: bool = False, callbacks: Any = ()) -> Path:
    config = read_config(Path("small.toml"), ["num_epochs=1", 'test=["points", {split="test"}]', *changes])
    return train(config, overwrite, callbacks).directory.path


def argus(*args: str | Path) -> Result:
    return CliRunner().invoke(cli.main, list(map(str, args)), catch_exceptions=False)


# Somebody's run directory.


def link(target: Path, file: Path) -> None:
    file.symlink_to(target.resolve())


@pytest.mark.parametrize("name", RUN_FILES)
@pytest.mark.parametrize("command", ["resume", "overwrite"])
def test_link_in_a_run_directory_is_not_written_through(name: str, command: str, folder: Path) -> None:
    file = run() / name
    kept = folder / "kept"
    file.rename(kept)
    link(kept, file)
    before = kept.read_bytes()
    reason = f"{re.escape(name)} is a symbolic link; a run writes only to files that lie in its run directory"
    with pytest.raises(ConfigError, match=reason):
        again(command)
    assert kept.read_bytes() == before


def again(command: str) -> None:
    """Resume the run, or replace it."""
    if command == "resume":
        resume(Path("run"), ["num_epochs=2"])
    else:
        run(overwrite=True)


@pytest.mark.parametrize("name", RUN_FILES)
def test_other_name_of_a_file_in_a_run_directory_keeps_what_it_has(name: str, folder: Path) -> None:
    file = run() / name
    os.link(file, folder / "kept")
    before = (folder / "kept").read_bytes()
    resume(Path("run"), ["num_epochs=2"])
    assert (folder / "kept").read_bytes() == before
    run(overwrite=True)
    assert (folder / "kept").read_bytes() == before


@pytest.mark.parametrize("name", RUN_FILES)
@pytest.mark.parametrize("command", ["resume", "train"])
def test_pipe_in_a_run_directory_is_refused_and_not_waited_for(name: str, command: str, folder: Path) -> None:
    file = run() / name
    file.unlink(missing_ok=True)
    os.mkfifo(file)
    with pytest.raises(ConfigError, match=f"{re.escape(name)} is not an ordinary file; a run writes only"):
        again(command)


@pytest.mark.filterwarnings("ignore::argus_core.errors.ArgusWarning")
@pytest.mark.parametrize("made", [".lock", ".replaced", ".replacing", ".discarded", ".metrics.jsonl.old"])
def test_links_by_the_names_that_a_run_keeps_for_itself_lead_nowhere(made: str, folder: Path) -> None:
    directory = run()
    (folder / "thesis.tex").write_text("precious", "utf-8")
    link(folder / "thesis.tex", directory / made)
    with contextlib.suppress(ArgusError):
        resume(directory, ["num_epochs=2"])
    with contextlib.suppress(ArgusError):
        run(overwrite=True)
    assert (folder / "thesis.tex").read_text("utf-8") == "precious"


@pytest.mark.parametrize(
    "callback",
    [
        '["logging_to_csv", {file_path="run/sub/table.csv"}]',
        '["logging_to_file", {file_path="run/sub/table.csv"}]',
        '["metrics_jsonl", {file_path="run/sub/table.csv"}]',
        '["checkpoint", {dir_path="run/sub", file_format="table.csv"}]',
    ],
)
@pytest.mark.parametrize("linked", ["file", "folder"])
def test_callbacks_do_not_leave_the_run_directory_by_links(callback: str, linked: str, folder: Path) -> None:
    directory = run(f"callbacks=[{callback}]")
    shutil.rmtree(directory / "sub")
    (folder / "own").mkdir()
    (folder / "own" / "table.csv").write_text("precious", "utf-8")
    if linked == "folder":
        link(folder / "own", directory / "sub")
    else:
        (directory / "sub").mkdir()
        link(folder / "own" / "table.csv", directory / "sub" / "table.csv")
    error: type[ArgusError] = ConfigError
    told = "is a symbolic link; a run writes only to files that lie in"
    if linked == "file" and "checkpoint" in callback:  # which looks at its folder before the run begins
        error, told = ArgusError, r"^checkpoint cannot write run/sub/table\.csv: it is a link; remove it"
    with pytest.raises(error, match=told):
        resume(directory, ["num_epochs=2"])
    assert contents(folder / "own") == {"table.csv": b"precious"}


@pytest.mark.parametrize(
    "callback",
    [
        '["logging_to_csv", {file_path="run/sub/../table.csv"}]',
        '["checkpoint", {dir_path="run/sub/../saved"}]',
        '["checkpoint", {dir_path="run/sub/.."}]',
    ],
)
def test_path_back_from_a_link_is_not_one_in_the_run_directory(callback: str, folder: Path) -> None:
    directory = run()
    (folder / "own" / "inner").mkdir(parents=True)
    link(folder / "own" / "inner", directory / "sub")
    config = (directory / "config.toml").read_text("utf-8")
    (directory / "config.toml").write_text(f"{config}callbacks = [{callback}]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="a configuration may choose a path in run, since it names files"):
        resume(directory, ["num_epochs=2"])
    with pytest.raises(ConfigError, match="has '..' after a symbolic link, which leads out of its run"):
        resume(directory, ["num_epochs=2", f"callbacks=[{callback}]"])
    assert contents(folder / "own") == {}
    assert [path.name for path in (folder / "own").iterdir()] == ["inner"]


# A folder of checkpoints on another disk.


def linked_checkpoints(folder: Path) -> Path:
    """Link the checkpoints of the run that is to come to a folder elsewhere, and return that."""
    disk = folder / "disk"
    disk.mkdir()
    (folder / "run").mkdir()
    link(disk, folder / "run" / "checkpoints")
    return disk


def test_checkpoints_may_be_linked_to_another_disk(folder: Path) -> None:
    disk = linked_checkpoints(folder)
    directory = run()
    first = contents(disk)
    assert set(first) == {"best.safetensors", "last.safetensors", ".run-directory"}
    resume(directory, ["num_epochs=2"])
    resume(directory / "checkpoints" / "last.safetensors", ["num_epochs=3"])
    run("seed=1", overwrite=True)
    assert set(contents(disk)) == set(first)
    assert contents(disk)["last.safetensors"] != first["last.safetensors"]
    assert (directory / "checkpoints").is_symlink()


def test_failed_run_puts_checkpoints_on_another_disk_back(folder: Path) -> None:
    disk = linked_checkpoints(folder)
    run()
    before = contents(folder)
    with pytest.raises(ArgusError, match="is not computed"):
        run("monitor=val_acc", overwrite=True)
    assert contents(folder) == before
    assert set(contents(disk)) == {"best.safetensors", "last.safetensors", ".run-directory"}


def test_failed_start_leaves_a_linked_folder_empty(folder: Path) -> None:
    disk = linked_checkpoints(folder)
    with pytest.raises(ArgusError, match="is not computed"):
        run("monitor=val_acc")
    assert contents(disk) == {}
    assert (folder / "run" / "checkpoints").is_symlink()


def test_link_to_the_checkpoints_of_another_run_is_refused(folder: Path) -> None:
    mine = run("run_dir=mine")
    theirs = run("run_dir=theirs")
    shutil.rmtree(theirs / "checkpoints")
    link(mine / "checkpoints", theirs / "checkpoints")
    before = contents(mine)
    action = (
        r"which is not marked as this run's \(no .run-directory in it\); remove the link, or, if you made"
    )
    for begin in (
        lambda: resume(theirs, ["num_epochs=2"]),
        lambda: run("run_dir=theirs", overwrite=True),
        lambda: run("run_dir=theirs"),
    ):
        with pytest.raises(ConfigError, match=action):
            begin()
    (theirs / ".replaced").touch()
    with pytest.raises(ConfigError, match=action):
        resume(theirs)
    assert contents(mine) == before


def test_link_to_the_linked_checkpoints_of_another_run_is_refused(folder: Path) -> None:
    disk = linked_checkpoints(folder)
    run()
    shutil.copytree("run", "copy", symlinks=True)
    before = contents(disk)
    with pytest.raises(ConfigError, match=rf"not marked as this run's \({folder.resolve()}/run\); remove"):
        resume(Path("copy"), ["num_epochs=2"])
    assert contents(disk) == before


def test_checkpoints_that_were_moved_to_another_disk_are_marked_by_hand(folder: Path) -> None:
    directory = run()
    shutil.move(directory / "checkpoints", "disk")
    link(folder / "disk", directory / "checkpoints")
    with pytest.raises(ConfigError, match="if you made it, write ") as refused:
        resume(directory, ["num_epochs=2"])
    _, text, file = re.fullmatch(r"(.*)if you made it, write (.*) into (.*)", str(refused.value)).groups()  # type: ignore[union-attr]
    Path(file).write_text(text, "utf-8")
    resume(directory, ["num_epochs=2"])


def test_link_to_a_folder_that_is_not_there_is_told(folder: Path) -> None:
    linked_checkpoints(folder).rmdir()
    with pytest.raises(ConfigError, match="which does not exist; make that folder first, or remove the link"):
        run()
    assert not (folder / "disk").exists()


def test_run_directory_may_be_linked(folder: Path) -> None:
    (folder / "disk").mkdir()
    link(folder / "disk", folder / "run")
    resume(run(), ["num_epochs=2"])
    run(overwrite=True)
    assert set(RUN_FILES) <= set(contents(folder / "disk"))


# Overwriting.


@pytest.mark.parametrize(
    "change",
    [
        "monitor=val_acc",
        "lr_scheduler=StepLR",
        "metrics=acc",
        "callbacks=early_stoping",
        'callbacks=["early_stopping", {monitor="val_acc"}]',
        "val_callbacks=progres",
        "nn_module=nett",
        "nn_module.hidden=-1",
        "loss.reduction=none",
        "device=cuda:99",
        "train.split=pictures",
        "batch_size=31 drop_last=true",
        "checkpoint_every=never",
        'lr_scheduler=["OneCycleLR", {max_lr=0.1, total_steps=1}]',
    ],
)
def test_run_that_cannot_begin_leaves_the_one_that_it_would_have_replaced(change: str, folder: Path) -> None:
    run()
    before = contents(folder)
    with pytest.raises((ArgusError, RuntimeError, ValueError, TypeError)):
        run(*change.split(), overwrite=True)
    assert contents(folder) == before


@pytest.mark.parametrize("error", [RuntimeError("it does not fit"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("event", ["start", "epoch_start", "iteration_start", "iteration_complete"])
def test_run_that_fails_before_its_first_checkpoint_puts_the_old_one_back(
    error: BaseException, event: str, folder: Path
) -> None:
    run()
    (folder / "run" / "notes.md").touch()
    before = contents(folder)
    with pytest.raises(type(error)):
        run("num_epochs=2", overwrite=True, callbacks=[_fault(error, event)])
    assert contents(folder) == before
    resume(Path("run"), ["num_epochs=2"])


def _fault(error: BaseException, event: str) -> Any:
    def fail(state: State) -> None:
        raise error

    return argus_core.on_event(event)(fail)


def replace_and_fork(connection: Connection) -> None:
    """Replace a run by one that forks, whose fork ends as a program does, and send what was there then."""

    def fork(state: State) -> None:
        if state.global_step == 1:
            child = os.fork()
            if child == 0:
                sys.exit(0)
            os.waitpid(child, 0)
            connection.send(contents(Path("run")))

    process = os.getpid()
    try:
        with small_registry():
            run("num_epochs=2")
            run("seed=1", overwrite=True, callbacks=[argus_core.on_iteration_complete(fork)])
            connection.send(contents(Path("run")))
    except SystemExit:
        assert os.getpid() != process
        os._exit(0)


def test_fork_of_a_run_that_ends_does_not_put_the_old_one_back(folder: Path) -> None:
    during, after = sent_by(replace_and_fork)
    assert "checkpoints/.last.safetensors.old" in during
    assert after["metrics.jsonl"].count(b"\n") == 1
    assert b"seed = 1" in after["config.toml"]


class Ended(TensorDataset):
    """Cannot be read once a signal has come, as by workers that it ends."""

    def __getitem__(self, index: int) -> Any:
        signal.raise_signal(signal.SIGTERM)
        raise EOFError("unexpected EOF")


@pytest.mark.usefixtures("usual_signals")
def test_signal_before_the_first_update_leaves_the_run_that_would_have_been_replaced(folder: Path) -> None:
    run()
    before = contents(folder)
    argus_core.register("dataset", "ended", lambda: Ended(torch.zeros(8, 4)))
    with pytest.raises(SystemExit):
        run('train="ended"', overwrite=True)
    assert contents(folder) == before


def test_run_that_fails_after_its_first_checkpoint_stays(folder: Path) -> None:
    run()
    fault = argus_core.on_event("epoch_start")(_fail_in_second_epoch)
    with pytest.raises(RuntimeError, match="the second epoch"):
        run("num_epochs=2", "seed=1", overwrite=True, callbacks=[fault])
    assert set(contents(folder / "run")) == {*RUN_FILES} - {"test.json"}
    assert read_config(Path("run/config.toml")).fit["seed"] == 1


def _fail_in_second_epoch(state: State) -> None:
    if state.epoch == 1:
        raise RuntimeError("the second epoch")


def test_configuration_of_a_copied_run_does_not_replace_the_original(folder: Path) -> None:
    shutil.copytree(run(), folder / "copy")
    before = contents(folder)
    reason = (
        "copy/config.toml belongs to the run in copy, and has run_dir = 'run', where another run is; "
        "choose one of the two with --run-dir"
    )
    with pytest.raises(ConfigError, match=reason):
        train(read_config(Path("copy/config.toml")), overwrite=True)
    assert contents(folder) == before
    for chosen in ("copy", "run"):
        assert argus("train", "copy/config.toml", "--run-dir", chosen, "--overwrite").exit_code == 0


def test_configuration_of_a_run_survives_its_own_replacement(folder: Path) -> None:
    run()
    before = contents(folder)
    assert argus("train", "run/config.toml", "--overwrite", "--set", "monitor=val_acc").exit_code == 1
    assert contents(folder) == before
    assert argus("train", "run/config.toml", "--overwrite").exit_code == 0


KILLED = """
import os, signal, sys
import argus_core
from argus_core.cli import main
from networks import Net
from small_runs import contents, points

@argus_core.on_event(sys.argv[1])
def kill(state):
    os.kill(os.getpid(), signal.SIGKILL)

argus_core.register("callback", "kill", lambda: kill)
argus_core.register("dataset", "points", points)
argus_core.register("nn_module", "net", Net)
main(sys.argv[2:])
"""


def process(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process, which dies at an event if the callback ``kill`` is chosen."""
    return run_program(KILLED, *args, folder=folder)


@pytest.fixture
def killed(folder: Path) -> dict[str, bytes]:
    """Leave what a run leaves that replaces another and is killed; return what there was of the old one."""
    run()
    before = contents(folder / "run")

    def leave(state: State) -> None:
        shutil.copytree("run", "left")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("seed=7", overwrite=True, callbacks=[argus_core.on_epoch_complete(leave)])
    shutil.rmtree("run")
    Path("left").rename("run")
    assert read_config(Path("run/config.toml")).fit["seed"] == 7
    return before


@pytest.mark.filterwarnings("default::argus_core.errors.ArgusWarning")
def test_run_whose_replacement_is_killed_by_the_system_is_put_back(folder: Path) -> None:
    run()
    before = contents(folder / "run")
    done = process(
        folder, "iteration_start", "train", "run/config.toml", "--overwrite", "--set", "callbacks=kill"
    )
    assert done.returncode == -signal.SIGKILL
    assert contents(folder / "run") != before
    assert argus("train", "run/config.toml").exit_code == 1
    assert contents(folder / "run") == before


@pytest.mark.filterwarnings("default::argus_core.errors.ArgusWarning")
def test_run_whose_replacement_was_killed_is_put_back_by_the_next_command(
    killed: dict[str, bytes], folder: Path
) -> None:
    told = (
        "warning: the run that would have replaced the one in run ended before its first checkpoint; "
        "the earlier"
    )
    result = argus("train", "run/config.toml")
    assert result.exit_code == 1
    assert told in result.stderr
    assert "already holds a run" in result.stderr
    assert contents(folder / "run") == killed


def test_run_whose_replacement_was_killed_can_be_resumed(killed: dict[str, bytes], folder: Path) -> None:
    with pytest.warns(ArgusWarning, match="the earlier run is restored"):
        resume(Path("run/checkpoints/last.safetensors"), ["num_epochs=2"])
    assert read_config(Path("run/config.toml")).fit["seed"] == 0
    assert len((folder / "run" / "metrics.jsonl").read_text("utf-8").splitlines()) == 2


def test_run_whose_replacement_was_killed_can_be_replaced(killed: dict[str, bytes], folder: Path) -> None:
    with pytest.warns(ArgusWarning, match="the earlier run is restored"):
        run(overwrite=True)
    assert set(contents(folder / "run")) == set(RUN_FILES)


# Two at once.


@pytest.mark.parametrize("first", ["train", "overwrite", "resume"])
def test_second_process_on_a_run_directory_is_refused(first: str, folder: Path) -> None:
    seen: list[str] = []

    def begin_others(state: State) -> None:
        for second in (
            lambda: run(),
            lambda: run(overwrite=True),
            lambda: resume(Path("run")),
            lambda: resume(Path("run/checkpoints/last.safetensors")),
        ):
            with pytest.raises(ConfigError, match=f"run is in use by process {os.getpid()} on '") as refused:
                second()
            seen.append(str(refused.value))

    others = [argus_core.on_event("epoch_complete")(begin_others)]
    if first != "train":
        run()
    if first == "resume":
        resume(Path("run"), ["num_epochs=2"], callbacks=others)
    else:
        run(overwrite=first == "overwrite", callbacks=others)
    assert len(seen) == 4
    assert not (folder / "run" / ".lock").exists()


def test_other_process_is_refused_by_the_command_and_read_only_commands_are_not(folder: Path) -> None:
    directory = run()
    refused: list[subprocess.CompletedProcess[str]] = []

    def begin_others(state: State) -> None:
        refused.append(process(folder, "start", "train", "small.toml", "--overwrite"))
        for args in (("explain", directory / "config.toml"), ("inspect", directory / RUN_FILES[-1])):
            assert argus(*args).exit_code == 0

    resume(directory, ["num_epochs=2"], callbacks=[argus_core.on_event("epoch_start")(begin_others)])
    reason = (
        rf"error: run is in use by process {os.getpid()} on '.*'; wait until that run ends, stop it, or .*\n"
    )
    assert re.fullmatch(reason, refused[0].stderr)


@pytest.mark.parametrize("first", ["train", "overwrite", "resume"])
@pytest.mark.parametrize("event", ["iteration_start", "epoch_start"])
def test_run_whose_directory_was_replaced_ends_and_leaves_the_new_one_alone(
    first: str, event: str, folder: Path
) -> None:
    seen: list[dict[str, bytes]] = []

    def replace_directory(state: State) -> None:
        if state.epoch == 2 and not seen:
            Path("run").rename("moved")
            run("seed=7")
            seen.append(contents(folder / "run"))

    callbacks = [argus_core.on_event(event)(replace_directory)]
    if first != "train":
        run()
    begin: Callable[[], Any] = (
        (lambda: resume(Path("run"), ["num_epochs=4"], callbacks=callbacks))
        if first == "resume"
        else (lambda: run("num_epochs=4", overwrite=first == "overwrite", callbacks=callbacks))
    )
    with pytest.raises(ArgusError, match="run directory 'run' was moved, removed or replaced during the run"):
        begin()
    assert contents(folder / "run") == seen[0]
    resume(Path("moved"), ["num_epochs=4"])
    assert len((folder / "moved" / "metrics.jsonl").read_text("utf-8").splitlines()) == 4


def test_link_to_a_run_directory_that_is_not_there_is_told(folder: Path) -> None:
    link(folder / "nowhere", folder / "run")
    reason = "run directory 'run' is a symbolic link to .*nowhere, which does not exist; make that folder"
    with pytest.raises(ConfigError, match=reason):
        run()


def test_run_directory_whose_name_is_too_long_is_told(folder: Path) -> None:
    name = "a" * 300
    result = argus("train", "small.toml", "--run-dir", name)
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: run directory {reprlib.repr(name)} cannot be used: File name too long; "
        "choose another with --run-dir\n"
    )
    assert argus("resume", name).stderr.startswith(f"error: {name} does not exist; give a folder")


# A disk that is full.


def train_on_a_full_disk(folder: Path, limit: int, args: tuple[str, ...], connection: Connection) -> None:
    """Train in a process whose files have at most ``limit`` bytes; send exit code and errors."""
    os.chdir(folder)
    for descriptor in (1, 2):  # which may lead to files
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with small_registry():
        result = argus("train", "small.toml", "--set", "num_epochs=1", *args)
    connection.send((result.exit_code, result.stderr))


FULL = re.compile(r"^error: [^\n]*: File too large; [^\n]*\n\Z", re.MULTILINE)


def test_workers_that_cannot_share_memory_are_told_in_one_sentence(folder: Path) -> None:
    before = contents(folder)
    [(code, errors)] = sent_by(train_on_a_full_disk, folder, 0, ("--set", "num_workers=1"))
    reason = "error: memory that workers share cannot be had: File too large; make room in the temporary"
    assert code == 1
    assert errors.startswith(reason)
    assert contents(folder) == before


@pytest.mark.parametrize("limit", [0, 300])
def test_disk_that_is_full_at_the_start_leaves_nothing(limit: int, folder: Path) -> None:
    before = contents(folder)
    [(code, errors)] = sent_by(train_on_a_full_disk, folder, limit, ())
    assert (code, bool(FULL.search(errors))) == (1, True), errors
    assert contents(folder) == before
    assert not (folder / "run").exists()
    assert argus("train", "small.toml", "--set", "num_epochs=1", "--overwrite").exit_code == 0


@pytest.mark.parametrize("limit", [0, 2000])
def test_disk_that_is_full_at_the_start_leaves_the_run_that_was_there(limit: int, folder: Path) -> None:
    run()
    before = contents(folder)
    [(code, errors)] = sent_by(train_on_a_full_disk, folder, limit, ("--overwrite",))
    assert (code, bool(FULL.search(errors))) == (1, True), errors
    assert contents(folder) == before


# Several processes.


@pytest.mark.parametrize(
    "command", [["train", "small.toml"], ["train", "small.toml", "--overwrite"], ["resume", "run"]]
)
def test_processes_that_cannot_meet_touch_no_file(
    command: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    before = contents(folder)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for variable in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(variable, raising=False)
    result = argus(*command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "cannot meet the others" in result.stderr
    begin: list[Callable[[], Any]] = [lambda: run(overwrite=True), lambda: resume(Path("run"))]
    for each in begin:
        with pytest.raises(ConfigError, match="cannot meet the others"):
            each()
    assert contents(folder) == before


@pytest.mark.parametrize("count", ["", "1", "none"])
def test_one_process_of_torchrun_trains(count: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", count)
    run()
