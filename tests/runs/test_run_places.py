"""Whatever stands where a run is to be kept: it works, or is refused in a sentence and left as it is."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from processes import sent_by

from argus_core.errors import ArgusError, ConfigError
from argus_core.runs.directory import RunDirectory

pytestmark = [
    pytest.mark.torchfree,
    pytest.mark.skipif(os.name == "nt", reason="Windows has neither these links nor these names"),
]

NOBODY = 65534


def make_run(path: Path, overwrite: bool = False) -> RunDirectory:
    directory = RunDirectory(path)
    with directory.held():
        directory.check(overwrite)
        directory.create("[model]\n", {"argus-torch": "0.1.0"})
        directory.checkpoints.mkdir(exist_ok=True)
        directory.last.touch()
        directory.settle()
    return directory


def hold(path: Path) -> None:
    with RunDirectory(path).held():
        pass


def contents(folder: Path) -> list[tuple[str, str]]:
    """Return what lies in a folder, with what links say."""
    return sorted(
        (path.relative_to(folder).as_posix(), os.readlink(path) if path.is_symlink() else "")
        for path in folder.rglob("*")
    )


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as there:
        here = Path.cwd()
        os.chdir(path.parent)  # the address of a socket is short
        try:
            there.bind(path.name)
        finally:
            os.chdir(here)


@pytest.mark.parametrize("is_begun", [False, True])
@pytest.mark.parametrize(
    ("target", "told"),
    [
        (
            "/dev/full",
            "is a symbolic link to /dev/full, which does not exist; make that folder first, or remove the",
        ),
        ("/dev/null", "is a symbolic link to /dev/null, which does not exist"),
        ("../pipe", "is a symbolic link to ../pipe, which does not exist"),
        ("checkpoints", "is a symbolic link to checkpoints, which does not exist"),
        ("nowhere", "is a symbolic link to nowhere, which does not exist"),
        ("../notes.md", "is a symbolic link to ../notes.md, which does not exist"),
        (".", "is a symbolic link to .*run, which holds the run; remove it"),
        ("..", "is a symbolic link to .*, which holds the run; remove it"),
        ("/", "is a symbolic link to /, which holds the run; remove it"),
        ("/dev", "is a symbolic link to /dev, which is not marked as this run's"),
        ("../other/checkpoints", "is a symbolic link to .*, which is not marked as this run's"),
    ],
)
def test_checkpoints_that_lead_nowhere_useful_are_refused(
    target: str, told: str, is_begun: bool, tmp_path: Path
) -> None:
    make_run(tmp_path / "other")
    (tmp_path / "notes.md").touch()
    os.mkfifo(tmp_path / "pipe")
    run = tmp_path / "run"
    if is_begun:
        make_run(run)
        shutil.rmtree(run / "checkpoints")
    run.mkdir(exist_ok=True)
    (run / "checkpoints").symlink_to(target)
    before = contents(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=f"run/checkpoints {told}"):
            make_run(run, overwrite)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo, bind])
def test_checkpoints_that_are_not_a_folder_are_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    make(tmp_path / "run" / "checkpoints")
    with pytest.raises(ConfigError, match="run/checkpoints is not a folder; a run keeps its checkpoints"):
        make_run(tmp_path / "run")


@pytest.mark.parametrize(
    "name", [".lock", ".made", ".replacing", ".replaced", ".discarded", ".config.toml.old", "..made.old"]
)
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, bind, lambda path: path.symlink_to(path.name)])
def test_what_stands_by_a_name_that_a_run_keeps_for_itself_is_refused(
    name: str, make: Callable[[Path], None], tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run").root
    make(run / name)
    before = contents(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=rf"{name} is (not an ordinary file|a symbolic link); a run"):
            make_run(run, overwrite)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (os.mkfifo, "is not a folder; choose another"),
        (bind, "is not a folder; choose another"),
        (Path.touch, "is a file; choose another"),
        (lambda path: path.symlink_to("/dev/null"), "is not a folder; choose another"),
        (lambda path: path.symlink_to("run"), "cannot be used: Too many levels of symbolic links; choose"),
        (lambda path: path.symlink_to("nowhere"), "is a symbolic link to .*nowhere, which does not exist"),
    ],
)
def test_run_directory_that_is_something_else_is_refused(
    make: Callable[[Path], None], told: str, tmp_path: Path
) -> None:
    make(tmp_path / "run")
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=f"run directory '.*run' {told}"):
        make_run(tmp_path / "run")
    assert contents(tmp_path) == before


NAMES = [
    "a\nb", "line\n", "return\r", " leading", "trailing ", "dots...", "a'b\"c", "-dash", "~home", "*", "a\\b",
    os.fsdecode(b"a\xff"), "\x1b[2J", "e\u0301", "x" * 255, "{epoch}", "#",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_linked", [False, True])
def test_run_directory_may_have_any_name(name: str, is_linked: bool, tmp_path: Path) -> None:
    run = tmp_path / name
    if is_linked:
        run.mkdir()
        (tmp_path / "disk").mkdir()
        (run / "checkpoints").symlink_to(tmp_path / "disk")
    directory = make_run(run)
    make_run(run, overwrite=True)
    with RunDirectory.of(directory.last).held() if not is_linked else RunDirectory.of(run).held():
        assert directory.last.exists()
    assert directory.owns(directory.last)


def test_owner_with_a_character_that_no_path_has_is_none(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / ".run-directory").write_text("a\0b\n", "utf-8")
    assert RunDirectory.marked_in(tmp_path / "disk") is None


def test_run_in_a_folder_of_ones_own_leaves_that_as_it_was(tmp_path: Path) -> None:
    for name in (".git/config", "src/train.py", "checkpoints/mine.safetensors", "checkpoints/.git"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    before = contents(tmp_path)
    make_run(tmp_path)
    make_run(tmp_path, overwrite=True)
    make_run(tmp_path / "src", overwrite=True)
    shutil.rmtree(tmp_path / "src" / "checkpoints")
    for name in ("versions.json", "config.toml", "src/versions.json", "src/config.toml"):
        (tmp_path / name).unlink()
    (tmp_path / "checkpoints" / "last.safetensors").unlink()
    assert contents(tmp_path) == before


def test_run_within_a_run_is_left_alone(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    for inner in ("b", "checkpoints", "checkpoints/c"):
        make_run(tmp_path / "a" / inner)
    before = contents(tmp_path)
    make_run(tmp_path / "a", overwrite=True)
    assert contents(tmp_path) == before
    with RunDirectory(tmp_path / "a").held(), RunDirectory(tmp_path / "a" / "b").held():
        pass


# Places that the system does not let a user write.


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def hold_as_a_user(path: Path, connection: Connection) -> None:
    """Send what is said when a user who may not do everything holds a run directory."""
    import filelock  # noqa: F401  # now: that user may not be allowed to read where it is installed

    if os.geteuid() == 0:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    try:
        hold(path)
        connection.send("")
    except ArgusError as error:
        connection.send(str(error))
    if os.getuid() == 0:
        os.seteuid(0)


def closed(folder: Path) -> None:
    """Make a run directory in a folder that cannot be written."""
    folder.chmod(0o555)


def closed_run(folder: Path) -> None:
    (folder / "run").mkdir(mode=0o555)


def hidden_run(folder: Path) -> None:
    (folder / "run").mkdir(mode=0o000)


def closed_lock(folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run").chmod(0o777)
    (folder / "run" / ".lock").touch(mode=0o000)


def hidden_checkpoints(folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run").chmod(0o777)
    (folder / "run" / "checkpoints").mkdir(mode=0o000)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            closed,
            "run directory '{run}' cannot be made: Permission denied; allow this user to write in {folder}",
        ),
        (
            closed_run,
            "cannot lock {run}: Permission denied; allow this user to write in {run}, or choose another",
        ),
        (
            hidden_run,
            "cannot lock {run}: Permission denied; allow this user to write in {run}, or choose another",
        ),
        (
            closed_lock,
            "cannot lock {run}: Permission denied for its file .lock, which belongs to another user's run;",
        ),
        (
            hidden_checkpoints,
            "run directory '{run}' cannot be used: {run}/checkpoints/.best.safetensors.old: ",
        ),
    ],
)
def test_place_that_the_user_may_not_write_is_told(
    make: Callable[[Path], None], told: str, open_folder: Path
) -> None:
    make(open_folder)
    run = open_folder / "run"
    [said] = sent_by(hold_as_a_user, run)
    for path in (open_folder, run, run / "checkpoints"):
        if path.exists():
            path.chmod(0o755)
    assert said.startswith(told.format(run=run, folder=open_folder))


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["checkpoints/best.safetensors", "config.toml"])
def test_file_that_is_put_there_while_a_run_is_built_is_not_replaced(
    name: str, overwrite: bool, tmp_path: Path
) -> None:
    directory, file = RunDirectory(tmp_path / "run"), tmp_path / "run" / name
    with directory.held():
        directory.check(overwrite)
        file.parent.mkdir(exist_ok=True)
        file.write_text("of another program")
        with pytest.raises(ConfigError, match=f"holds '{file.name}', which does not belong to a run"):
            directory.create("[model]\n", {"argus-torch": "0.1.0"})
        directory.give_up(discard=True)
    assert file.read_text() == "of another program"


def test_run_that_is_copied_there_while_another_is_built_is_not_replaced(tmp_path: Path) -> None:
    make_run(tmp_path / "other")
    directory = RunDirectory(tmp_path / "run")
    with directory.held():
        directory.check(overwrite=False)
        shutil.copytree(tmp_path / "other", tmp_path / "run", dirs_exist_ok=True)
        with pytest.raises(ConfigError, match="already holds a run; resume it"):
            directory.create("[model]\n", {"argus-torch": "0.2.0"})
        directory.give_up(discard=True)
    assert "0.1.0" in (tmp_path / "run/versions.json").read_text()
