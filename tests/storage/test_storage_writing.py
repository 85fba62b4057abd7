"""A checkpoint is written whole or not at all, and what was there before stays until then."""

from __future__ import annotations

import concurrent.futures.thread
import errno
import multiprocessing
import os
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import running, sent_by

from argus_core.errors import ArgusWarning, CheckpointError
from argus_core.storage import CheckpointFile, linux, write
from argus_core.storage.leftovers import sweep
from argus_core.storage.replacement import replacement

resource = pytest.importorskip("resource", reason="the system has no resource limits")
fcntl = pytest.importorskip("fcntl", reason="the system has no file locks")

BIG = {f"w{index}": torch.randn(200_000) for index in range(20)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a checkpoint that is there."""
    path = tmp_path / "model.safetensors"
    write(path, {"a": torch.ones(3)}, {"run": "old"})
    return path


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Let no file grow beyond 1 MB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def assert_old(path: Path) -> None:
    with CheckpointFile(path) as file:
        assert file.header.manifest["run"] == "old"
        assert torch.equal(file.read()["a"], torch.ones(3))
    assert os.listdir(path.parent) == [path.name]


def assert_new(path: Path) -> None:
    with CheckpointFile(path) as file:
        assert torch.equal(file.read()["a"], torch.zeros(3))


# Failures


def test_full_disk_leaves_the_old_file(path: Path, full_disk: None) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"cannot write .*model\.safetensors: File too large; the checkpoint that was there is "
        "untouched; free some space or save elsewhere",
    ):
        write(path, BIG, {})
    assert_old(path)


def test_full_disk_leaves_nothing_where_nothing_was(tmp_path: Path, full_disk: None) -> None:
    with pytest.raises(CheckpointError, match="File too large; nothing was left behind; free some space"):
        write(tmp_path / "a", BIG, {})
    assert os.listdir(tmp_path) == []


def test_disk_that_is_found_full_only_when_flushed_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CheckpointError, match="No space left on device; .* untouched; free some space"):
        write(path, {"a": torch.zeros(3)}, {})
    assert_old(path)


def test_what_has_been_written_begins_to_go_to_the_disk_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    monkeypatch.setattr(linux, "begin_writing", lambda descriptor, start, size: begun.extend([start, size]))
    write(path, {"a": torch.zeros(5 * 2**20)}, {})
    assert begun == [0, 2**23, 2**23, 2**23]


def test_failure_of_a_block_that_is_written_beside_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(linux, "begin_writing", fail)
    with pytest.raises(CheckpointError, match="Input/output error; .* untouched; save elsewhere"):
        write(path, {"a": torch.zeros(5 * 2**20)}, {})
    assert_old(path)


def test_interruption_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("argus_core.storage.crc.ChunkSums.add", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(path, {"a": torch.zeros(3)}, {})
    assert_old(path)


def test_folder_that_cannot_be_flushed_is_told_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def fail_for_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_for_folders)
    with pytest.warns(
        ArgusWarning, match=r"cannot be flushed to its disk \(Input/output error\): .* save else"
    ):
        write(path, {"a": torch.zeros(3)}, {})
    write(path, {"a": torch.ones(3)}, {})
    assert path.stat().st_size > 0


@pytest.mark.parametrize("number", ["EINVAL", "ENOTSUP", "ENOSYS", "EBADF", "EACCES", "EPERM"])
def test_system_that_flushes_no_folders_is_fine(
    number: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(getattr(errno, number), "cannot flush a folder")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    write(path, {"a": torch.zeros(3)}, {})


def test_folder_in_its_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(
        CheckpointError, match="cannot write .*: it is a folder; .*; give the name of a file in it"
    ):
        write(tmp_path / "a", {}, {})


def test_pipe_in_its_place_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    with pytest.raises(
        CheckpointError, match="cannot write .*: it is not an ordinary file; .*; save elsewhere"
    ):
        write(tmp_path / "a", {}, {})


def test_file_on_the_way_is_told(path: Path) -> None:
    with pytest.raises(
        CheckpointError, match="cannot write .*Not a directory; nothing was left behind; give a path"
    ):
        write(path / "b" / "c", {}, {})
    assert_old(path)


@pytest.mark.parametrize("name", ["a\0b", "a" * 300])
def test_impossible_name_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="cannot write .*; give (another|a shorter) name"):
        write(tmp_path / name, {}, {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission_is_told(path: Path) -> None:
    path.parent.chmod(0o500)
    try:
        with pytest.raises(
            CheckpointError, match="Permission denied; .* untouched; allow writing to its folder"
        ):
            write(path, {}, {})
    finally:
        path.parent.chmod(0o700)
    assert_old(path)


# Threads


def assert_big(path: Path) -> None:
    with CheckpointFile(path) as file:
        found = file.read()
    assert all(torch.equal(found[name], tensor) for name, tensor in BIG.items())


@pytest.mark.parametrize("started", [0, 1])
def test_file_is_written_and_read_where_no_thread_can_be_started(
    started: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, left = threading.Thread.start, [None] * started

    def refuse(thread: threading.Thread) -> None:
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    write(path, BIG, {})
    left.extend([None] * started)
    assert_big(path)


def write_when_the_process_ends(path: Path, connection: Connection) -> None:
    """Leave a thread that goes on when this one has come to its end, as a program may train in one."""

    def go_on() -> None:
        while not concurrent.futures.thread._shutdown:
            time.sleep(0.01)
        write(path, BIG, {})
        assert_big(path)
        connection.send("read again")

    threading.Thread(target=go_on).start()


def test_file_is_written_and_read_when_the_main_thread_has_ended(path: Path) -> None:
    assert list(sent_by(write_when_the_process_ends, path)) == ["read again"]


# Several writers


def test_threads_leave_one_whole_file(path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda run: write(path, {"a": torch.full((300_000,), run)}, {"run": run}), range(12)))
    with CheckpointFile(path) as file:
        assert set(file.read()["a"].tolist()) == {file.header.manifest["run"]}
    assert os.listdir(path.parent) == [path.name]


def write_often(path: Path, run: int, connection: Connection) -> None:
    for _ in range(5):
        write(path, {"a": torch.full((300_000,), run)}, {"run": run})
    connection.send("written")


def test_processes_leave_one_whole_file(path: Path) -> None:
    with ExitStack() as stack:
        writers = [stack.enter_context(running(write_often, path, run)) for run in range(3)]
        assert [connection.recv() for _, connection in writers] == ["written"] * 3
    with CheckpointFile(path) as file:
        assert set(file.read()["a"].tolist()) == {file.header.manifest["run"]}
    assert os.listdir(path.parent) == [path.name]


# Temporary files that were left behind


def leave(path: Path, name: str, age: float = 0) -> Path:
    temporary = path.with_name(name)
    temporary.write_bytes(b"abc")
    os.utime(temporary, (time.time() - age, time.time() - age))
    return temporary


@pytest.fixture
def dead() -> int:
    """Return the number of a process that has ended."""
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    assert process.pid is not None
    return process.pid


def test_temporary_file_of_a_dead_writer_is_swept(path: Path, dead: int) -> None:
    leave(path, f".{path.name}.{dead}-0123abcd.tmp")
    write(path, {}, {})
    assert os.listdir(path.parent) == [path.name]


def test_temporary_file_of_an_hour_ago_is_swept(path: Path) -> None:
    leave(path, f".{path.name}.{os.getpid()}-0123abcd.tmp", age=3700)
    leave(path, f".{path.name}.0123abcd.tmp", age=3700)
    write(path, {}, {})
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    "number", [1, os.getpid()], ids=["of a container's first process", "of this process"]
)
def test_temporary_file_of_a_writer_whose_number_another_process_has_is_swept(
    path: Path, number: int
) -> None:
    leave(path, f".{path.name}.{number}-0123abcd.tmp")  # as every process of a container has the number 1
    write(path, {}, {})
    assert os.listdir(path.parent) == [path.name]


def test_files_that_are_not_abandoned_stay(path: Path, dead: int) -> None:
    kept = [
        leave(path, f".{path.name}.0123abcd.tmp"),
        leave(path, f".other.{dead}-0123abcd.tmp", age=3700),
        leave(path, f".{path.name}.notes.tmp", age=3700),
        leave(path, f"{path.name}.0123abcd.tmp", age=3700),
    ]
    write(path, {}, {})
    assert all(temporary.exists() for temporary in kept)


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="the system does not say what a link is")
def test_link_and_pipe_by_the_name_of_a_temporary_file_are_not_opened(
    path: Path, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = path.with_name("notes.txt")
    notes.write_bytes(b"abc")
    link, pipe = (path.with_name(f".{path.name}.{dead}-{name}.tmp") for name in ("01", "02"))
    link.symlink_to(notes)  # or to a device that acts when it is opened
    os.mkfifo(pipe)
    opened: list[str] = []
    usual = os.open

    def note(file: Any, *args: Any, **options: Any) -> int:
        opened.append(os.path.realpath(file))
        return usual(file, *args, **options)

    monkeypatch.setattr(os, "open", note)
    write(path, {}, {})
    assert path.exists()
    assert not {os.path.realpath(notes), os.path.realpath(pipe)} & set(opened)


def test_temporary_file_of_another_user_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(process: int, number: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refuse)
    monkeypatch.setattr(fcntl, "flock", without_locks)
    temporary = leave(path, f".{path.name}.1-0123abcd.tmp")
    write(path, {}, {})
    assert temporary.exists()


def test_file_that_a_writer_elsewhere_holds_stays(path: Path, dead: int) -> None:
    held = leave(path, f".{path.name}.{dead}-0123abcd.tmp", age=3700)
    with held.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write(path, {}, {})
        assert held.exists()
    write(path, {}, {})
    assert not held.exists()


def test_file_that_a_writer_elsewhere_swept_before_it_was_held_is_made_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, swept = fcntl.flock, []

    def sweep_first(descriptor: int, operation: int) -> None:
        if not swept:
            swept.extend(path.parent.glob(f".{path.name}.*.tmp"))
            swept[0].unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    write(path, {"a": torch.ones(3)}, {"run": "old"})
    assert_old(path)


def test_file_of_a_killed_writer_is_locked_until_it_is_removed(
    path: Path, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = leave(path, f".{path.name}.{dead}-0123abcd.tmp")
    unlink, removed = os.unlink, []

    def lock_first(name: str) -> None:
        with open(name, "rb+") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unlink(name)
        removed.append(name)

    monkeypatch.setattr(os, "unlink", lock_first)
    write(path, {}, {})
    assert removed == [str(left)]


def test_file_is_locked_until_it_is_in_place(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, swept = os.replace, []

    def sweep_first(source: str, target: Path) -> None:
        sweep(path.parent, path.name.__eq__)
        swept.append(not os.path.exists(source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", sweep_first)
    write(path, {"a": torch.ones(3)}, {"run": "old"})
    assert swept == [False]
    assert_old(path)


def test_file_that_a_writer_elsewhere_looks_at_is_made_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, looked = fcntl.flock, []

    def look_first(descriptor: int, operation: int) -> None:
        if not looked:
            looked.append(descriptor)
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", look_first)
    write(path, {"a": torch.ones(3)}, {"run": "old"})
    assert_old(path)


def without_locks(*_: object) -> None:
    raise OSError(errno.ENOTSUP, "Operation not supported")


def test_system_without_locks_goes_by_process_and_age(
    path: Path, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(path, f".{path.name}.{dead}-0123abcd.tmp")
    kept = leave(path, f".{path.name}.{os.getpid()}-0123abcd.tmp")
    monkeypatch.setattr(fcntl, "flock", without_locks)
    write(path, {"a": torch.ones(3)}, {"run": "old"})
    kept.unlink()
    assert_old(path)


def test_system_that_knows_no_locks_and_no_advice(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("argus_core.storage.leftovers.fcntl", None)
    monkeypatch.setattr("argus_core.storage.replacement.HAS_LOCKS", False)
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    write(path, {"a": torch.ones(3)}, {"run": "old"})
    assert_old(path)


# The file itself


def test_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a" / "best.safetensors"
    write(path, {}, {})
    assert path.is_file()


def test_new_file_has_ordinary_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "a", {}, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("permissions", [0o604, 0o444])
def test_existing_file_keeps_its_permissions(permissions: int, path: Path) -> None:
    path.chmod(permissions)
    write(path, {}, {})
    assert stat.S_IMODE(path.stat().st_mode) == permissions


def test_system_that_sets_no_permissions_is_fine(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", refuse)
    write(path, {"a": torch.zeros(3)}, {})
    assert_new(path)


def test_folder_that_may_be_written_and_not_read_is_fine(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = os.open

    def refuse_folders(name: Any, flags: int, *args: Any, **options: Any) -> int:
        if os.path.isdir(name):
            raise PermissionError(errno.EACCES, "Permission denied")
        return look(name, flags, *args, **options)

    def refuse(name: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse_folders)
    monkeypatch.setattr(os, "scandir", refuse)
    write(path, {"a": torch.zeros(3)}, {})
    monkeypatch.undo()
    assert_new(path)


def test_symbolic_link_keeps_pointing_where_it_does(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "links" / "best"
    link.parent.mkdir()
    link.symlink_to(path)
    write(link, {}, {"run": "new"})
    assert link.is_symlink()
    with CheckpointFile(path) as file:
        assert file.header.manifest["run"] == "new"


def test_tensor_that_changes_while_it_is_written_makes_a_sound_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from argus_core.storage.crc import ChunkSums

    tensor = torch.zeros(1000)
    add = ChunkSums.add

    def train_and_add(sums: ChunkSums, part: memoryview) -> None:
        add(sums, part)
        tensor.add_(1)

    monkeypatch.setattr(ChunkSums, "add", train_and_add)
    write(path, {"a": tensor}, {})
    with CheckpointFile(path) as file:
        assert torch.equal(file.read()["a"], torch.zeros(1000))


def test_nothing_is_replaced_where_the_block_raises(path: Path) -> None:
    def write_half() -> None:
        with replacement(path) as file:
            file.write(b"abc")
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        write_half()
    assert_old(path)
