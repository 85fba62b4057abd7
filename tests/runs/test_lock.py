"""Of the processes that would write to a run directory, one does."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import re
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from processes import running, sent_by

from argus_core.errors import ArgusError, ArgusWarning, ConfigError
from argus_core.files.confinement import confined
from argus_core.runs.directory import RunDirectory
from argus_core.runs.lock import check_free, locked

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows shows nobody what another has locked")


def hold(folder: Path, connection: Connection) -> None:
    """Hold the lock until the other end is closed."""
    with locked(folder):
        connection.send(os.getpid())
        connection.poll(None)


def hold_and_fork(folder: Path, connection: Connection) -> None:
    """Hold the lock, with a child that outlives this process."""
    with locked(folder):
        child = os.fork()
        if child == 0:
            signal.pause()
        connection.send(child)
        connection.poll(None)


def is_free(folder: Path) -> bool:
    with locked(folder):
        return True


def test_second_process_is_refused_and_told_who_holds_the_lock(tmp_path: Path) -> None:
    with running(hold, tmp_path) as (_, connection):
        process = connection.recv()
        reason = (
            rf"^{re.escape(str(tmp_path))} is in use by process {process} on {platform.node()!r}; wait until "
            "that run ends, stop it, or choose another run directory$"
        )
        for _ in range(2):  # being refused harms neither lock nor text
            with pytest.raises(ConfigError, match=reason):
                is_free(tmp_path)


@pytest.mark.parametrize("files", [["versions.json", "config.toml"], ["metrics.jsonl"]])
def test_run_that_is_going_on_is_told_before_what_it_has_written(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    directory = RunDirectory(tmp_path)
    with running(hold, tmp_path) as (_, connection):
        connection.recv()
        with pytest.raises(ConfigError, match="is in use by process"):
            directory.check(overwrite=False)
        assert (tmp_path / ".lock").read_text()
    with pytest.raises(ConfigError, match="already holds a run|does not belong to a run"):
        directory.check(overwrite=False)


def test_looking_whether_a_lock_is_free_neither_takes_nor_follows_it(tmp_path: Path) -> None:
    for place in (tmp_path / "none", tmp_path):
        check_free(place)
    assert not [*tmp_path.iterdir()]
    os.mkfifo(tmp_path / ".lock")
    check_free(tmp_path)
    (tmp_path / ".lock").unlink()
    with running(hold, tmp_path) as (_, connection):
        connection.recv()
        (tmp_path / "other").mkdir()
        (tmp_path / "other/.lock").symlink_to(tmp_path / ".lock")
        check_free(tmp_path / "other")


def test_second_run_of_one_process_is_refused(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(ConfigError, match=f"in use by process {os.getpid()}"),
        locked(tmp_path),
    ):
        pass
    assert is_free(tmp_path)


def test_lock_of_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    with running(hold, tmp_path) as (process, connection):
        connection.recv()
        process.kill()
        process.join()
        assert (tmp_path / ".lock").exists()
        assert is_free(tmp_path)


def test_child_that_outlives_a_killed_process_does_not_keep_its_lock(tmp_path: Path) -> None:
    with running(hold_and_fork, tmp_path) as (process, connection):
        child = connection.recv()
        try:
            process.kill()
            process.join()
            assert is_free(tmp_path)
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("text", ["", "{", "[" * 5000, '{"process": 1, "host": "gone"}', "\0\xff"])
def test_text_of_a_lock_that_is_not_held_does_not_matter(tmp_path: Path, text: str) -> None:
    (tmp_path / ".lock").write_text(text, "utf-8")
    assert is_free(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[" * 5000, "{}", "7", '{"process": "x", "host": 1}'])
def test_holder_whose_text_cannot_be_read_is_another_process(tmp_path: Path, text: str) -> None:
    with locked(tmp_path):
        (tmp_path / ".lock").write_text(text, "utf-8")
        with pytest.raises(ConfigError, match="in use by another process; wait"):
            is_free(tmp_path)


def test_lock_leaves_nothing(tmp_path: Path) -> None:
    assert is_free(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious", "utf-8")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "thesis.tex")
    with confined(tmp_path / "run"), pytest.raises(ConfigError, match=r"\.lock is a symbolic link"):
        is_free(tmp_path / "run")
    assert (tmp_path / "thesis.tex").read_text("utf-8") == "precious"


def test_lock_in_a_copy_of_hard_links_is_refused_while_the_run_is_on_and_free_afterwards(
    tmp_path: Path,
) -> None:
    for name in ("run", "copy"):
        (tmp_path / name).mkdir()
    with running(hold, tmp_path / "run") as (_, connection):
        process = connection.recv()
        os.link(tmp_path / "run" / ".lock", tmp_path / "copy" / ".lock")
        for name in ("run", "copy"):
            with pytest.raises(ConfigError, match=f"in use by process {process} on"):
                is_free(tmp_path / name)
        assert (tmp_path / "run" / ".lock").exists()
    for name in ("run", "copy"):
        with confined(tmp_path / name):
            assert is_free(tmp_path / name)


def test_lock_that_has_another_name_leaves_what_that_holds(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious", "utf-8")
    (tmp_path / "run").mkdir()
    os.link(tmp_path / "thesis.tex", tmp_path / "run" / ".lock")
    with confined(tmp_path / "run"):
        assert is_free(tmp_path / "run")
    assert (tmp_path / "thesis.tex").read_text("utf-8") == "precious"


def test_lock_whose_file_was_removed_is_taken_again(tmp_path: Path) -> None:
    with locked(tmp_path) as lock:
        (tmp_path / ".lock").unlink()
        assert not lock.is_held
        lock.check()
        assert lock.is_held
        with pytest.raises(ConfigError, match="in use by process"):
            is_free(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_lock_whose_file_was_removed_is_not_taken_from_another_run(tmp_path: Path) -> None:
    with locked(tmp_path) as lock:
        (tmp_path / ".lock").unlink()
        with running(hold, tmp_path) as (_, connection):
            process = connection.recv()
            with pytest.raises(ConfigError, match=f"in use by process {process} on"):
                lock.check()
            lock.release()
            assert (tmp_path / ".lock").exists()


def test_folder_that_replaces_the_locked_one_is_noticed_and_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    reason = "run' was moved, removed or replaced during the run; the run's files are in the original folder"
    with locked(folder) as lock:
        lock.check()
        folder.rename(tmp_path / "moved")
        with pytest.raises(ArgusError, match=reason):
            lock.check()
        folder.mkdir()
        with locked(folder):
            with pytest.raises(ArgusError, match=reason):
                lock.check()
            lock.release()
            with pytest.raises(ConfigError, match="in use by process"):
                is_free(folder)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.ETIMEDOUT])
@pytest.mark.parametrize("name", ["", ".lock"])
def test_folder_that_cannot_be_looked_at_for_a_moment_is_still_that_of_the_run(
    name: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = os.stat

    def away(path: Path, *args: Any, **options: Any) -> os.stat_result:
        if path == tmp_path / name:
            raise OSError(number, os.strerror(number))
        return look(path, *args, **options)

    with locked(tmp_path) as lock:
        monkeypatch.setattr(os, "stat", away)
        lock.check()
        assert not lock.is_held  # nothing is removed there
        monkeypatch.undo()
        lock.check()
        assert lock.is_held


def fork_and_leave(folder: Path, connection: Connection) -> None:
    """Let a fork leave the lock as an exception would, and send what it was told before."""
    with locked(folder) as lock:
        child = os.fork()
        if child == 0:
            try:
                lock.check()
            except ArgusError as error:
                connection.send(str(error))
            connection.send(lock.is_held)
            lock.release()
            os._exit(0)
        os.waitpid(child, 0)
        connection.send(lock.is_held)
        lock.check()


def test_fork_neither_has_the_lock_nor_gives_it_back(tmp_path: Path) -> None:
    reason, *held = sent_by(fork_and_leave, tmp_path)
    assert re.fullmatch(r"process \d+ is a fork of process \d+, whose run is in .*; end a fork .*", reason)
    assert held == [False, True]


def test_process_that_leaves_the_folder_it_began_in_keeps_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "elsewhere" / "run").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with locked(tmp_path / "run") as lock:
        monkeypatch.chdir("elsewhere")
        lock.check()
        assert lock.is_held


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_file_system_without_locks_is_told_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def without(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", without)
    reason = "cannot be locked, as its file system has no locks .*; make sure that no other process trains"
    with pytest.warns(ArgusWarning, match=reason):
        assert is_free(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("module", "call"), [(fcntl, "flock"), (os, "unlink")])
def test_lock_that_cannot_be_given_back_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, call: str
) -> None:
    def failing(*_: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with locked(tmp_path):
        monkeypatch.setattr(module, call, failing)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EIO, "Input/output error; choose another with --run-dir"),
        (errno.EROFS, "Read-only file system; copy it to a writable disk, or choose another"),
        (errno.ENOSPC, "No space left on device; free space on its disk, or choose another"),
        (errno.EDQUOT, "Disk quota exceeded; free space on its disk, or choose another"),
        (
            errno.EMFILE,
            r"Too many open files; raise the limit of open files \(ulimit -n\), or choose another",
        ),
        (errno.EMLINK, "Too many links; remove some of the folders beside it, or choose another"),
    ],
)
def test_folder_that_cannot_be_written_is_told(
    number: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ArgusError, match=f"cannot lock {tmp_path}: {told}"):
        is_free(tmp_path)
