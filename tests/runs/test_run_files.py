"""Every file that a run makes is its own: replaced, put back and removed with it, wherever the process is."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from networks import Net
from programs import run_program
from small_runs import broken_points, contents, points
from torch import Tensor

import argus_core
from argus_core import State, cli
from argus_core.config import read_config
from argus_core.errors import ArgusError, ArgusWarning, ConfigError
from argus_core.files.confinement import opener
from argus_core.runs.directory import RunDirectory
from argus_core.runs.run import resume, train

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has neither these links nor these names")

WRITERS = (
    'callbacks=["logging_to_csv", ["checkpoint", {dir_path="run/own/saved", every="1up"}], '
    '["metrics_jsonl", {file_path="run/own/table.jsonl"}], "checkpoint"]'
)
VAL_WRITERS = 'val_callbacks=["logging_to_csv", ["logging_to_file", {file_path="run/val.txt"}]]'


@pytest.fixture(autouse=True)
def folder(small_folder: Path) -> Path:
    return small_folder


def run(*changes: str, overwrite: bool = False, callbacks: Any = ()) -> Path:
    config = read_config(Path("small.toml"), ["num_epochs=1", *changes])
    return train(config, overwrite, callbacks).directory.root


def argus(*args: str | Path) -> Result:
    return CliRunner().invoke(cli.main, list(map(str, args)), catch_exceptions=False)


@argus_core.on_event("iteration_complete")
def fail(state: State) -> None:
    raise RuntimeError("planned")


# Files of callbacks.


def test_files_of_callbacks_are_put_back_with_their_run(folder: Path) -> None:
    run(WRITERS, VAL_WRITERS)
    (folder / "run" / "own" / "notes.md").touch()
    before = contents(folder)
    made = {"run/metrics.csv", "run/own/table.jsonl", "run/val/metrics.csv", "run/val.txt"}
    assert made <= set(before)
    with pytest.raises(RuntimeError, match="planned"):
        run(WRITERS, VAL_WRITERS, overwrite=True, callbacks=[fail])
    assert contents(folder) == before
    resume(folder / "run", ["num_epochs=2"])
    assert len((folder / "run" / "own" / "table.jsonl").read_text("utf-8").splitlines()) == 2


@pytest.mark.parametrize("how", ["copied", "linked by a backup"])
def test_files_that_a_failed_run_has_overwritten_are_put_back_whoever_made_them(
    how: str, folder: Path
) -> None:
    run(WRITERS, VAL_WRITERS)
    link = how == "linked by a backup"
    shutil.copytree("run", "copy", copy_function=os.link if link else shutil.copy2)
    if link:
        resume(folder / "run", ["num_epochs=2"])
    else:
        shutil.rmtree("run")
        os.rename("copy", "run")
    before = contents(folder)
    with pytest.raises(RuntimeError, match="planned"):
        run(WRITERS, VAL_WRITERS, "seed=1", overwrite=True, callbacks=[fail])
    assert contents(folder) == before
    run(WRITERS, VAL_WRITERS, "seed=1", overwrite=True)
    assert not [name for name in contents(folder) if name.endswith((".old", ".overwritten"))]


def test_run_that_was_copied_amid_its_replacement_says_which_files_are_not_back(folder: Path) -> None:
    run(WRITERS)
    copy = argus_core.on_iteration_complete(lambda state: shutil.copytree("run", "copy", dirs_exist_ok=True))
    run(WRITERS, overwrite=True, callbacks=[copy])
    told = r"the earlier run is restored, except \..*\.old and other files of that kind, whose list came"
    with pytest.warns(ArgusWarning, match=told):
        RunDirectory(Path("copy")).recover()


def test_files_of_a_new_run_are_removed_when_the_earlier_one_is_put_back(folder: Path) -> None:
    run()
    before = contents(folder)
    with pytest.raises(RuntimeError, match="planned"):
        run(WRITERS, VAL_WRITERS, overwrite=True, callbacks=[fail])
    assert contents(folder) == before
    assert sorted(path.name for path in (folder / "run").iterdir() if path.is_dir()) == ["checkpoints"]


def test_files_of_callbacks_are_replaced_with_their_run(folder: Path) -> None:
    run(WRITERS, VAL_WRITERS)
    mine = ["run/notes.md", "run/own/saved/notes.md", "run/checkpoints/best-of-all.safetensors"]
    for name in mine:
        shutil.copy("run/checkpoints/best.safetensors", name)
    run(overwrite=True)
    run("run_dir=fresh")
    expected = {name.replace("fresh/", "run/") for name in contents(folder) if name.startswith("fresh/")}
    assert {name for name in contents(folder) if name.startswith("run/")} == {*expected, *mine}


def test_start_that_fails_leaves_nothing_of_its_callbacks(folder: Path) -> None:
    before = contents(folder)
    with pytest.raises(RuntimeError, match="planned"):
        run(WRITERS, VAL_WRITERS, callbacks=[argus_core.on_event("iteration_start")(fail.function)])
    assert contents(folder) == before
    assert not (folder / "run").exists()


def test_files_of_a_resumed_run_are_its_own(folder: Path) -> None:
    run()
    resume(folder / "run", ["num_epochs=2", WRITERS])
    assert (folder / "run" / "metrics.csv").exists()
    run(overwrite=True)
    assert not (folder / "run" / "metrics.csv").exists()
    assert not (folder / "run" / ".made").exists()


def test_checkpoints_that_are_not_finite_are_replaced_with_their_run(folder: Path) -> None:
    argus_core.register("dataset", "broken", broken_points)
    with pytest.raises(ArgusError, match="kept no checkpoint"):
        run("train=broken", "val=broken", "monitor=val_loss", "batch_size=4", "val_batch_size=4")
    assert (folder / "run" / "checkpoints" / "last-not-finite.safetensors").exists()
    run(overwrite=True)
    assert sorted(path.name for path in (folder / "run" / "checkpoints").iterdir()) == [
        "best.safetensors",
        "last.safetensors",
    ]


def test_models_that_own_callbacks_save_are_of_the_run(folder: Path) -> None:
    @argus_core.on_event("epoch_complete")
    def save(state: State) -> None:
        state.model.save("run/mine/model.safetensors")

    run(callbacks=[save])
    run(overwrite=True)
    assert not (folder / "run" / "mine" / "model.safetensors").exists()


def test_files_that_own_callbacks_declare_are_of_the_run_and_others_are_left(folder: Path) -> None:
    @argus_core.on_event("start")
    def write(state: State) -> None:
        Path("run/theirs.txt").write_text("first", "utf-8")
        with open("run/declared.txt", "w", encoding="utf-8", opener=opener) as file:
            file.write(str(state.engine.run_id))

    run(callbacks=[write])
    before = contents(folder)
    with pytest.raises(RuntimeError, match="planned"):
        run(overwrite=True, callbacks=[write, fail])
    assert contents(folder) == before
    run(overwrite=True)
    assert (folder / "run" / "theirs.txt").exists()
    assert not (folder / "run" / "declared.txt").exists()


def test_file_that_was_there_before_the_run_wrote_it_stays(folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "diary.txt").write_text("mine\n", "utf-8")
    run('callbacks=["logging_to_file", {file_path="run/diary.txt", append=true}]')
    run(overwrite=True)
    assert (folder / "run" / "diary.txt").read_text("utf-8").startswith("mine\n")


def test_files_of_a_run_that_was_taken_apart_are_of_no_run_any_more(folder: Path) -> None:
    run(WRITERS)
    for name in ("config.toml", "versions.json", "metrics.jsonl", "log.txt", "checkpoints"):
        path = folder / "run" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = contents(folder)
    assert before.pop("run/.made")
    with pytest.raises(RuntimeError, match="planned"):
        run(callbacks=[argus_core.on_event("iteration_start")(fail.function)])
    run()
    run(overwrite=True)
    assert before.items() <= contents(folder).items()


def test_list_that_came_with_a_run_removes_nothing(folder: Path) -> None:
    run(WRITERS)
    shutil.copytree("run", "theirs")
    number, *lines = (folder / "theirs" / ".made").read_bytes().splitlines()
    (folder / "theirs" / ".made").write_bytes(b"\n".join([number, b'"thesis.tex"', *lines]))
    (folder / "theirs" / "thesis.tex").write_text("precious", "utf-8")
    run("run_dir=theirs", overwrite=True)
    assert (folder / "theirs" / "thesis.tex").read_text("utf-8") == "precious"
    assert (folder / "theirs" / "metrics.csv").exists()


KILLED = """
import os, signal, sys
import argus_core
from argus_core.cli import main
from networks import Net
from small_runs import contents, points

@argus_core.on_event("iteration_complete")
def kill(state):
    os.kill(os.getpid(), signal.SIGKILL)

argus_core.register("callback", "kill", lambda: kill)
argus_core.register("dataset", "points", points)
argus_core.register("nn_module", "net", Net)
main(sys.argv[1:])
"""


def test_files_of_callbacks_are_put_back_after_a_kill(folder: Path) -> None:
    run(WRITERS)
    before = contents(folder)
    args = [
        "train",
        "run/config.toml",
        "--overwrite",
        "--set",
        WRITERS.replace('["logging', '["kill", "logging', 1),
    ]
    done = run_program(KILLED, *args, folder=folder)
    assert done.returncode == -9, done.stderr
    assert (folder / "run" / ".metrics.csv.old").exists()
    with pytest.warns(ArgusWarning, match="the earlier run is restored"):
        resume(folder / "run")
    before.pop("run/log.txt")  # to which the resumed run appends
    assert before.items() <= contents(folder).items()


# What is said of the earlier run.


def test_failed_overwrite_says_that_the_earlier_run_is_back(folder: Path) -> None:
    run()
    with pytest.raises(ArgusError, match="no epoch") as caught:
        run(overwrite=True, callbacks=[raising(ArgusError("no epoch"))])
    assert caught.value.__notes__ == ["the earlier run in run is restored"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ArgusError("no epoch"), 1, "error: no epoch; the earlier run in run is restored\n"),
        (
            RuntimeError("planned"),
            1,
            "update 1 of train epoch 1.*; the earlier run in run is restored\\); --trace",
        ),
        (KeyboardInterrupt(), 130, "the earlier run in run is restored\ninterrupted\n"),
        (SystemExit(143), 143, "the earlier run in run is restored\n"),
    ],
)
def test_command_says_that_the_earlier_run_is_back(
    error: BaseException, code: int, told: str, folder: Path
) -> None:
    run()
    argus_core.register("callback", "raising", lambda: raising(error))
    result = argus("train", "small.toml", "--overwrite", "--set", "callbacks=raising")
    assert result.exit_code == code
    assert re.search(told, result.stderr)


def raising(error: BaseException) -> Any:
    def fail(state: State) -> None:
        raise error

    return argus_core.on_event("iteration_start")(fail)


@pytest.mark.parametrize("method", ["unlink", "replace"])
def test_replaced_run_that_cannot_be_removed_ends_no_run(
    method: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    call = getattr(Path, method)

    def refuse(self: Path, *args: Any, **options: Any) -> Any:
        if self.name in (".metrics.jsonl.old", ".replaced"):
            raise PermissionError(errno.EPERM, "Operation not permitted", str(self))
        return call(self, *args, **options)

    def forbid(state: State) -> None:
        monkeypatch.setattr(Path, method, refuse)

    told = r"the run that was replaced in run could not be removed \(Operation not permitted\): its files are"
    with pytest.warns(ArgusWarning, match=told) as warned:
        run("seed=1", "num_epochs=2", overwrite=True, callbacks=[argus_core.on_epoch_start(forbid)])
    assert len(warned) == 1
    with pytest.warns(ArgusWarning, match=told):
        resume(Path("run"), ["num_epochs=3"])
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    resume(Path("run"), ["num_epochs=4"])
    assert read_config(Path("run/config.toml")).fit["seed"] == 1
    assert (folder / "run" / "metrics.jsonl").read_text("utf-8").count("\n") == 4
    assert not [name for name in contents(folder) if name.endswith(".old")]


def test_failure_after_the_first_checkpoint_says_nothing_of_the_earlier_run(folder: Path) -> None:
    run()
    argus_core.register("callback", "late", lambda: late)
    result = argus("train", "small.toml", "--overwrite", "--set", "callbacks=late", "--set", "num_epochs=2")
    assert "planned" in result.stderr
    assert "earlier run" not in result.stderr


@argus_core.on_event("epoch_start")
def late(state: State) -> None:
    if state.epoch == 1:
        raise ArgusError("planned")


def test_failed_overwrite_says_where_a_run_lies_that_could_not_be_put_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    before = contents(folder)

    with monkeypatch.context() as patch:

        def fail_to_put_back(state: State) -> None:
            def full(self: Path, target: Path) -> Path:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            patch.setattr(Path, "replace", full)
            raise ArgusError("no epoch")

        with pytest.raises(ArgusError, match="no epoch") as caught:
            run(overwrite=True, callbacks=[argus_core.on_event("iteration_start")(fail_to_put_back)])
    [note] = caught.value.__notes__  # type: ignore[attr-defined]
    assert note == (
        "the earlier run could not be restored (No space left on device): its files are in run as .NAME.old, "
        "and the next argus train or argus resume there restores them"
    )
    with pytest.warns(ArgusWarning, match="the earlier run is restored"):
        resume(Path("run"))
    before.pop("run/log.txt")
    assert before.items() <= contents(folder).items()


# A process that changes its folder.


class Wandering(Net):
    """A network whose constructor changes the folder."""

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        os.chdir(_elsewhere())


class WanderingForward(Net):
    """A network that changes the folder when it is used."""

    def forward(self, input: Tensor) -> Tensor:
        os.chdir(_elsewhere())
        return super().forward(input)


class WanderingMetric(argus_core.Metric):
    """A metric that changes the folder."""

    name = "wandering"
    better = "max"

    def reset(self) -> None:
        os.chdir(_elsewhere())

    def update(self, step_output: Any) -> None:
        pass

    def compute(self) -> float:
        return 1.0


def wandering_points(**params: Any) -> Any:
    os.chdir(_elsewhere())
    return points(**params)


@argus_core.on_event("epoch_start")
def wandering_callback(state: State) -> None:
    os.chdir(_elsewhere())


def _elsewhere() -> str:
    return os.environ["ELSEWHERE"]


WANDERERS = {
    "network": 'nn_module=["wandering", {hidden=8}]',
    "forward": 'nn_module=["wandering_forward", {hidden=8}]',
    "dataset": 'train=["wandering", {split="train"}]',
    "metric": 'metrics=["accuracy", "wandering"]',
    "callback": "callbacks=wandering",
}


@pytest.fixture
def elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = folder / "elsewhere"
    path.mkdir()
    monkeypatch.setenv("ELSEWHERE", str(path))
    argus_core.register("nn_module", "wandering", Wandering)
    argus_core.register("nn_module", "wandering_forward", WanderingForward)
    argus_core.register("dataset", "wandering", wandering_points)
    argus_core.register("metric", "wandering", WanderingMetric)
    argus_core.register("callback", "wandering", lambda: wandering_callback)
    return path


@pytest.mark.parametrize("wanderer", WANDERERS)
def test_process_that_changes_its_folder_leaves_the_run_where_it_began(
    wanderer: str, folder: Path, elsewhere: Path
) -> None:
    changes = ["num_epochs=2", WANDERERS[wanderer], VAL_WRITERS, 'test=["points", {split="test"}]']
    if wanderer != "callback":
        changes.append(WRITERS)
    run(*changes)
    assert contents(elsewhere) == {}
    first = contents(folder / "run")
    assert {"test.json", "metrics.jsonl", "checkpoints/last.safetensors", "val/metrics.csv"} <= set(first)
    os.chdir(folder)
    run(*changes, overwrite=True)
    os.chdir(folder)
    assert set(contents(folder / "run")) == set(first)
    resume(Path("run"), ["num_epochs=4"])
    os.chdir(folder)
    resume(Path("run/checkpoints/last.safetensors"), ["num_epochs=5"])
    assert contents(elsewhere) == {}
    assert len((folder / "run" / "metrics.jsonl").read_text("utf-8").splitlines()) == 5


@pytest.mark.parametrize("wanderer", ["network", "forward"])
def test_run_that_fails_elsewhere_puts_the_earlier_one_back(
    wanderer: str, folder: Path, elsewhere: Path
) -> None:
    run(WRITERS)
    before = contents(folder)
    with pytest.raises(RuntimeError, match="planned"):
        run(WRITERS, WANDERERS[wanderer], overwrite=True, callbacks=[fail])
    assert contents(folder) == before


def test_command_shows_the_paths_of_a_run_that_went_elsewhere_as_they_were_given(elsewhere: Path) -> None:
    result = argus("train", "small.toml", "--set", WANDERERS["dataset"])
    assert "\nlast checkpoint: run/checkpoints/last.safetensors\n" in result.stdout


def test_folder_that_was_removed_is_told(folder: Path) -> None:
    (folder / "gone").mkdir()
    os.chdir(folder / "gone")
    (folder / "gone").rmdir()
    with pytest.raises(ConfigError, match="the working directory cannot be used: No such file.*; change to"):
        train(read_config(folder / "small.toml"))


def test_callback_of_a_script_writes_where_it_was_made(folder: Path, elsewhere: Path) -> None:
    own = argus_core.resolve("callback", "checkpoint").load()("saved")
    os.chdir(elsewhere)
    with pytest.raises(RuntimeError, match="planned"):
        train(read_config(folder / "small.toml", [f"run_dir={folder}/run"]), callbacks=[own, late_error])
    assert [path.name for path in (folder / "saved").iterdir()] == ["model-000.safetensors"]


@argus_core.on_event("epoch_start")
def late_error(state: State) -> None:
    if state.epoch == 1:
        raise RuntimeError("planned")
