"""Killed, out of space and in a crowd: a checkpoint is the old one or the new one, whole.

``tox run -e faults`` makes many more trials; docs/explanation/what-a-checkpoint-promises.md has its figures.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from numbered import numbered, run_of, save
from processes import running

from argus_core import CheckpointError

resource = pytest.importorskip("resource", reason="the system has no resource limits")

Trials = Callable[[int, int], int]
Record = Callable[[str, object], None]

NAMES = {".safetensors": "file", ".sharded": "folder"}


@pytest.fixture(params=NAMES, ids=NAMES.get)
def suffix(request: pytest.FixtureRequest) -> str:
    """Return the suffix of a checkpoint's path: of one file, and of a folder of shards."""
    return str(request.param)


def size_of(path: Path) -> int:
    """Return the size of a checkpoint's largest file, which a full disk does not hold."""
    return max(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))


# Killed


def save_on(paths: list[Path], connection: Connection) -> None:
    """Save one model, then another, to each path in turn, and say when each save begins and ends."""
    models = [numbered(1), numbered(2)]
    for index, path in enumerate(paths):
        connection.send("begin")
        save(models[index % 2], path)
        connection.send("end")


def seconds_of_a_save(path: Path) -> float:
    with running(save_on, [path] * 10) as (_, connection):
        connection.recv()
        start = time.perf_counter()
        for _ in range(19):
            connection.recv()
        return (time.perf_counter() - start) / 10


def kill(paths: list[Path], seconds: float) -> bool:
    """Kill a process so long after it began to save to these paths; return whether it was amid a save."""
    with running(save_on, paths) as (process, connection):
        said = [connection.recv()]
        time.sleep(seconds)
        process.kill()
        process.join()
        with suppress(EOFError):
            while True:
                said.append(connection.recv())
    return bool(said[-1] == "begin")


def assert_swept(paths: list[Path]) -> int:
    """Check that the next save to each path removes what a killed one left, and return how much that was."""
    folder = paths[0].parent
    left = len(list(folder.glob(".*.tmp")))
    for path in set(paths):
        save(numbered(0, hidden=4), path)
    assert set(folder.iterdir()) == set(paths)
    return left


def test_killed_while_overwriting_leaves_the_old_or_the_new_checkpoint(
    tmp_path: Path, suffix: str, trials: Trials, record_property: Record
) -> None:
    rng, seen, count = random.Random(0), Counter[str](), trials(10, 100)
    path = tmp_path / f"model{suffix}"
    duration = seconds_of_a_save(path)
    for _ in range(count):
        save(numbered(0), path)
        amid = kill([path] * 1000, rng.uniform(0, 3 * duration))
        found = run_of(path)
        assert found in (0, 1, 2)
        seen.update({"amid a save": amid, "a new file": found > 0, "temporaries swept": assert_swept([path])})
    # Else the kills came in between, and would show nothing.
    assert seen["amid a save"] >= count // 2
    record_property(f"kill -9 while overwriting a {NAMES[suffix]}, {count} times: none lost", dict(seen))


def test_killed_while_saving_leaves_whole_checkpoints_only(
    tmp_path: Path, suffix: str, trials: Trials, record_property: Record
) -> None:
    rng, seen, count = random.Random(1), Counter[str](), trials(10, 100)
    duration = seconds_of_a_save(tmp_path / f"timed{suffix}")
    for number in range(count):
        paths = [tmp_path / f"{number}" / f"{index}{suffix}" for index in range(100)]
        amid = kill(paths, rng.uniform(0, 3 * duration))
        there = [path for path in paths if path.exists()]
        assert [run_of(path) for path in there] == [1 + index % 2 for index in range(len(there))]
        swept = assert_swept(paths[: len(there) + 1])
        seen.update({"amid a save": amid, "new files": len(there), "temporaries swept": swept})
    assert seen["amid a save"] >= count // 2
    record_property(f"kill -9 while saving a {NAMES[suffix]}, {count} times: none torn", dict(seen))


# Out of space


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file grow beyond a size."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_full_disk_is_told_and_leaves_the_old_checkpoint_whole(
    tmp_path: Path, suffix: str, trials: Trials, record_property: Record
) -> None:
    path, count = tmp_path / f"model{suffix}", trials(20, 200)
    save(numbered(1), path)
    model, size = numbered(2), size_of(path)
    told = f"{os.strerror(errno.EFBIG)}; the checkpoint that was there is untouched; free some space"
    for room in (*(size * index // (count - 1) for index in range(count - 1)), size - 1):
        with room_for(room), pytest.raises(CheckpointError, match=told):
            save(model, path)
        assert run_of(path) == 1
        assert os.listdir(tmp_path) == [path.name]
    record_property(f"disk full at {count} points of a {NAMES[suffix]}", "the old one loads each time")


# In a crowd


def save_often(path: Path, runs: range, connection: Connection) -> None:
    for run in runs:
        save(numbered(run, hidden=2000), path)
    connection.send(len(runs))


def read_often(path: Path, connection: Connection) -> None:
    """Read until told to stop, and send how often each number was read."""
    seen = Counter[int]()
    while not connection.poll():
        seen[run_of(path, hidden=2000)] += 1
    connection.send(seen)


def test_reader_beside_two_writers_reads_whole_checkpoints(
    tmp_path: Path, suffix: str, trials: Trials, record_property: Record
) -> None:
    path, count = tmp_path / f"model{suffix}", trials(120, 2000)
    save(numbered(0, hidden=2000), path)
    odd, even = range(1, count + 1, 2), range(2, count + 1, 2)
    with running(read_often, path) as (_, reader):
        with running(save_often, path, odd) as (_, one), running(save_often, path, even) as (_, other):
            assert one.recv() + other.recv() == count
        reader.send("stop")
        seen = reader.recv()
    assert len(seen) > 1
    assert run_of(path, hidden=2000) in (odd[-1], even[-1])
    assert os.listdir(tmp_path) == [path.name]
    reads = f"{seen.total()} reads of {len(seen)} different ones, all whole"
    record_property(f"two writers and a reader of a {NAMES[suffix]}, {count} saves", reads)
