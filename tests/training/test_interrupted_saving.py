"""Signals that come while a checkpoint is being written, in processes of their own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from networks import batches
from processes import running
from strategies import build, register_all, same_weights

import argus_core
from argus_core import Model
from argus_core.storage import read_header
from argus_core.training import interruption

DATA = batches((4, 3, 5, 2))
HELD = 3  # the save that is held: there is one after each update
SECONDS = 20.0


@pytest.fixture(autouse=True)
def _registry(usual_signals: None) -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        register_all()
        yield


def fit(folder: Path, background: bool, resume: bool = False) -> Model:
    options = {"dir_path": str(folder), "every": "1up", "max_saves": 1, "optimizer_state": True}
    model = build(("ema", {"decay": 0.9}))
    model.fit(
        DATA,
        num_epochs=2,
        callbacks=[("checkpoint", {**options, "background": background})],
        resume=folder if resume else None,
    )
    return model


def train_and_hold(folder: Path, background: bool, save: int, connection: Connection) -> None:
    """Train, and in that save wait to be told on, when the file is written and not yet on the disk."""
    sync, files = os.fsync, 0

    def held(descriptor: int) -> None:
        nonlocal files
        if os.path.isfile(f"/proc/self/fd/{descriptor}"):
            files += 1
            if files == save:
                connection.send("writing")
                connection.recv()
        sync(descriptor)

    os.fsync = held
    interruption._ONE_SIGNAL = 0.1
    with argus_core.isolated_registry(builtins=True):
        register_all()
        fit(folder, background)


def until_it_writes(process: BaseProcess, connection: Connection) -> int:
    assert connection.poll(60)
    assert connection.recv() == "writing"
    assert process.pid is not None
    return process.pid


def updates(folder: Path) -> list[int]:
    """Return after how many updates the checkpoints in a folder were written."""
    paths = sorted(folder.glob("*.safetensors"))
    return [read_header(path).manifest["progress"]["counters"]["global_step"] for path in paths]


def assert_goes_on_as_if_nothing_had_happened(folder: Path, background: bool) -> None:
    whole = build(("ema", {"decay": 0.9}))
    whole.fit(DATA, num_epochs=2)
    assert same_weights(fit(folder, background, resume=True), whole)
    assert [path.name for path in folder.iterdir()] == ["model-001-000008.safetensors"]


@pytest.mark.parametrize("background", [False, True], ids=["while training waits", "in the background"])
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_file_become_whole_and_ends_the_run_after_it(
    background: bool, signum: signal.Signals, tmp_path: Path
) -> None:
    with running(train_and_hold, tmp_path, background, HELD) as (process, connection):
        os.kill(until_it_writes(process, connection), signum)
        time.sleep(0.2)
        assert process.is_alive()
        connection.send("go on")
        process.join(SECONDS)
        assert process.exitcode == (1 if signum == signal.SIGINT else 143)  # of a KeyboardInterrupt here
    (done,) = updates(tmp_path)
    assert HELD <= done < 8
    assert not list(tmp_path.glob(".*"))
    assert_goes_on_as_if_nothing_had_happened(tmp_path, background)


@pytest.mark.parametrize("background", [False, True], ids=["while training waits", "in the background"])
def test_a_second_signal_ends_the_process_at_once_and_the_checkpoint_before_it_is_whole(
    background: bool, tmp_path: Path
) -> None:
    with running(train_and_hold, tmp_path, background, HELD) as (process, connection):
        pid = until_it_writes(process, connection)
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.2)
        assert process.is_alive()
        os.kill(pid, signal.SIGTERM)
        process.join(SECONDS)  # it was never told to go on
        assert process.exitcode == -signal.SIGTERM
    assert updates(tmp_path) == [HELD - 1]
    assert len(list(tmp_path.glob(".*.tmp"))) == 1
    assert_goes_on_as_if_nothing_had_happened(tmp_path, background)


def test_a_signal_while_the_last_file_is_written_still_ends_the_process_and_loses_nothing(
    tmp_path: Path,
) -> None:
    """The run is over then, and there is no update left after which it could end."""
    with running(train_and_hold, tmp_path, True, 8) as (process, connection):
        os.kill(until_it_writes(process, connection), signal.SIGTERM)
        time.sleep(0.2)
        connection.send("go on")
        process.join(SECONDS)
        assert process.exitcode == 143
    assert updates(tmp_path) == [8]
    assert_goes_on_as_if_nothing_had_happened(tmp_path, True)


def test_minutes_count_from_when_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minutes, saved = 0.0, []

    @argus_core.on_iteration_start
    def pass_time(state: Any) -> None:
        nonlocal minutes
        minutes += 4

    @argus_core.on_event("checkpoint_saved")
    def note(state: Any) -> None:
        saved.append(state.global_step)

    @argus_core.on_iteration_complete
    def fail(state: Any) -> None:
        if state.global_step == 5:
            raise KeyError("the power is out")

    monkeypatch.setattr(time, "monotonic", lambda: 60 * minutes)
    keep = ("checkpoint", {"dir_path": str(tmp_path), "every": "10min", "optimizer_state": True})
    with pytest.raises(KeyError):
        build().fit(DATA, num_epochs=3, callbacks=[pass_time, keep, note, fail])
    assert saved == [3]
    whole, resumed = build(), build()
    whole.fit(DATA, num_epochs=3)
    resumed.fit(DATA, num_epochs=3, callbacks=[pass_time, keep, note], resume=tmp_path)
    assert saved == [3, 6, 9, 12]
    assert same_weights(resumed, whole)
