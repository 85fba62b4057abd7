"""A run directory takes one run, and gives up nothing but that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from argus_core.errors import ArgusError, ArgusWarning, ConfigError
from argus_core.files.confinement import opener
from argus_core.runs.directory import RunDirectory

pytestmark = pytest.mark.torchfree

VERSIONS = {"argus-torch": "0.1.0"}


def make_run(path: Path, overwrite: bool = False) -> RunDirectory:
    directory = RunDirectory(path)
    with directory.held():
        directory.check(overwrite)
        directory.create("[model]\n", VERSIONS)
        directory.settle()
    return directory


def finish(directory: RunDirectory) -> None:
    """Write what a run writes."""
    directory.checkpoints.mkdir()
    for file in (directory.best, directory.last, directory.log, directory.metrics, directory.test):
        file.touch()


def test_new_run_has_its_configuration_and_versions(tmp_path: Path) -> None:
    directory = make_run(tmp_path / "runs" / "a")
    assert directory.config.read_text("utf-8") == "[model]\n"
    assert json.loads(directory.versions.read_text("utf-8")) == VERSIONS


def test_folder_with_other_things_in_it_takes_a_run(tmp_path: Path) -> None:
    (tmp_path / "notes.md").touch()
    assert make_run(tmp_path).config.exists()


def test_second_run_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path)
    with pytest.raises(
        ConfigError,
        match=r"already holds a run; resume it \(argus resume\), choose another with --run-dir, or",
    ):
        make_run(tmp_path)


def test_second_run_may_overwrite_the_first(tmp_path: Path) -> None:
    finish(make_run(tmp_path))
    make_run(tmp_path, overwrite=True)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"config.toml", "versions.json"}


def test_overwriting_removes_nothing_but_the_run(tmp_path: Path) -> None:
    finish(make_run(tmp_path))
    own = [tmp_path / "notes.md", tmp_path / "checkpoints" / "own.safetensors"]
    for file in own:
        file.touch()
    make_run(tmp_path, overwrite=True)
    assert all(file.exists() for file in own)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("versions", [None, "not JSON", "[]", "{}"])
def test_file_of_no_run_is_never_overwritten(tmp_path: Path, overwrite: bool, versions: str | None) -> None:
    (tmp_path / "config.toml").write_text("mine", "utf-8")
    if versions is not None:
        (tmp_path / "versions.json").write_text(versions, "utf-8")
    with pytest.raises(
        ConfigError,
        match="holds 'config.toml', which does not belong to a run; choose another with --run-dir",
    ):
        make_run(tmp_path, overwrite)
    assert (tmp_path / "config.toml").read_text("utf-8") == "mine"


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ConfigError, match=r"run directory '.*a' is a file; choose another with --run-dir"):
        make_run(tmp_path / "a")


def test_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ArgusError, match=r"^run directory '.*' cannot be used: Not a directory; choose"):
        make_run(tmp_path / "a" / "b")


@contextmanager
def begun_run(path: Path) -> Iterator[RunDirectory]:
    """Begin a run that fails before it has a checkpoint, and replaces the one that is there."""
    directory = RunDirectory(path)
    with directory.held():
        directory.create("new", VERSIONS)
        yield directory
        directory.give_up(discard=True)


def test_discarded_run_leaves_nothing(tmp_path: Path) -> None:
    with begun_run(tmp_path / "runs" / "a") as directory:
        finish(directory)
    assert list(tmp_path.iterdir()) == []


def test_discarded_run_leaves_the_folders_that_were_there(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with begun_run(tmp_path / "runs" / "a"):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["runs"]


def test_discarded_run_leaves_what_is_not_of_it(tmp_path: Path) -> None:
    with begun_run(tmp_path / "a"):
        (tmp_path / "a" / "notes.md").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["notes.md"]


def test_what_a_killed_process_was_writing_is_removed_by_the_next_command(tmp_path: Path) -> None:
    finish(make_run(tmp_path))
    names = ("config.toml", "versions.json", "test.json", "log.txt", "table.csv")
    with RunDirectory(tmp_path).held(), open(tmp_path / "table.csv", "w", opener=opener):
        pass
    left = [tmp_path / f".{name}.0123abcd.tmp" for name in names]
    own = [tmp_path / ".notes.md.0123abcd.tmp", tmp_path / ".config.toml.mine.tmp"]
    for file in (*left, *own):
        file.touch()
    (tmp_path / "outside").touch()
    (tmp_path / ".config.toml.89abcdef.tmp").symlink_to(tmp_path / "outside")
    with RunDirectory(tmp_path).held():
        pass
    assert not any(file.exists() for file in left)
    assert all(file.exists() for file in (*own, tmp_path / "outside"))


def test_lock_is_not_of_what_a_killed_process_overwrote(tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish(make_run(run))
    killed = RunDirectory(run)
    with killed.held():
        killed.create("[model]\n", VERSIONS)  # and neither settled nor given up
    directory = RunDirectory(run)
    with pytest.warns(ArgusWarning, match="the earlier run is restored"):
        directory.recover()
    assert directory.last.exists()
    left = {file.name for file in run.iterdir()}
    assert not left & {"..lock.old", ".overwritten", ".replaced", ".lock"}
