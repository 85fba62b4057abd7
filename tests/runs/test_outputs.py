"""A command writes no file that is there unless asked to, and never one of a run or one that it reads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from argus_core.errors import ArgusError
from argus_core.runs.directory import RunDirectory
from argus_core.runs.outputs import check_output

pytestmark = pytest.mark.torchfree


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    """Work beside a run with both checkpoints and another."""
    monkeypatch.chdir(tmp_path)
    directory = RunDirectory(Path("run"))
    with directory.held():
        directory.create("[model]\n", {"argus-torch": "0.1.0"})
    directory.checkpoints.mkdir()
    for file in (directory.best, directory.last, directory.checkpoints / "model-001.safetensors"):
        file.write_bytes(file.name.encode())
    return directory


@pytest.mark.parametrize("overwrite", [False, True])
def test_new_file_may_be_written(directory: RunDirectory, overwrite: bool) -> None:
    check_output(Path("new.npz"), directory.best, overwrite=overwrite)
    check_output(directory.path / "predictions.npz", directory.best, overwrite=overwrite)
    check_output(directory.checkpoints / "predictions.npz", directory.best, overwrite=overwrite)


def test_file_that_is_there_is_written_only_if_asked(directory: RunDirectory) -> None:
    Path("old.npz").touch()
    Path("nowhere.npz").symlink_to("new.npz")
    for name in ("old.npz", "nowhere.npz"):
        with pytest.raises(
            ArgusError, match=f"^{name} exists already; choose another output file, or add --overwrite$"
        ):
            check_output(Path(name), directory.best, overwrite=False)
        check_output(Path(name), directory.best, overwrite=True)


@pytest.mark.parametrize(
    "name", ["same.safetensors", "link.safetensors", "hard.safetensors", "x/../same.safetensors"]
)
def test_what_is_read_is_not_written_by_any_name(directory: RunDirectory, name: str) -> None:
    Path("x").mkdir()
    Path("same.safetensors").touch()
    Path("link.safetensors").symlink_to("same.safetensors")
    os.link("same.safetensors", "hard.safetensors")
    with pytest.raises(ArgusError, match="is also the input; choose another output file"):
        check_output(Path(name), directory.best, Path("same.safetensors"), overwrite=True)


@pytest.mark.parametrize("way", ["plain", "linked run", "linked file", "linked checkpoints", "disk"])
@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors", "model-001.safetensors"])
def test_checkpoint_of_a_run_is_not_written_by_any_name(directory: RunDirectory, way: str, name: str) -> None:
    output = directory.checkpoints / name
    if way == "linked run":
        Path("linked").symlink_to("run")
        output = Path("linked/checkpoints") / name
    elif way == "linked file":
        Path("link.safetensors").symlink_to(output)
        output = Path("link.safetensors")
    elif way in ("linked checkpoints", "disk"):
        directory.checkpoints.rename("disk")
        directory.checkpoints.symlink_to(Path("disk").resolve())
        Path("disk/.run-directory").write_text(os.path.realpath("run"), "utf-8")
        output = output if way == "linked checkpoints" else Path("disk") / name
    with pytest.raises(ArgusError, match="is a file of the run in .*; choose another output file"):
        check_output(output, overwrite=True)


@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors"])
def test_checkpoint_of_a_run_is_not_written_by_another_name_beside_it(
    directory: RunDirectory, name: str
) -> None:
    os.link(directory.checkpoints / name, "run/hard.safetensors")
    with pytest.raises(ArgusError, match="is a file of the run in .*; choose another output file"):
        check_output(Path("run/hard.safetensors"), overwrite=True)


@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors"])
def test_checkpoint_that_a_run_is_still_to_write_is_not_written(directory: RunDirectory, name: str) -> None:
    (directory.checkpoints / name).unlink()
    with pytest.raises(ArgusError, match="is a file of the run in .*run; choose another output file"):
        check_output(directory.checkpoints / name, overwrite=True)


def test_best_checkpoint_of_no_run_is_a_file_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.safetensors").touch()
    check_output(tmp_path / "checkpoints" / "best.safetensors", overwrite=True)


def test_link_of_the_users_own_may_be_written_through(directory: RunDirectory) -> None:
    Path("disk").mkdir()
    Path("disk/old.npz").touch()
    Path("link.npz").symlink_to("disk/old.npz")
    check_output(Path("link.npz"), directory.best, overwrite=True)


@pytest.mark.parametrize("linked", ["predictions.npz", "checkpoints/predictions.npz", "inner"])
def test_link_in_a_run_directory_leads_out_of_it_nowhere(directory: RunDirectory, linked: str) -> None:
    target = Path("outside" if linked == "inner" else "notes.npz").resolve()
    if linked == "inner":
        target.mkdir()
    else:
        target.write_text("mine", "utf-8")
    (directory.path / linked).symlink_to(target)
    output = directory.path / linked
    with pytest.raises(ArgusError, match="is a symbolic link; a run writes only to files that lie in"):
        check_output(output / "predictions.npz" if linked == "inner" else output, overwrite=True)


def test_linked_folder_of_checkpoints_takes_a_new_file(directory: RunDirectory) -> None:
    directory.checkpoints.rename("disk")
    directory.checkpoints.symlink_to(Path("disk").resolve())
    check_output(directory.checkpoints / "predictions.npz", directory.best, overwrite=True)
