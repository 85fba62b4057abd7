"""SIGINT, SIGTERM, SIGHUP, SIGUSR1: a run ends after the present update, saved; a later one ends at once."""

from __future__ import annotations

import faulthandler
import os
import pty
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from networks import batches
from processes import running
from strategies import build, register_all, same_weights

import argus_core
from argus_core import State, on_iteration_complete
from argus_core.training import interruption

DATA = batches((4, 3, 5, 2))
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@pytest.fixture(autouse=True)
def _registry(usual_signals: None) -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        register_all()
        yield


def raising(signum: int, phase: str = "train", update: int = 2) -> Any:
    """Return a callback that raises a signal in one iteration."""

    @on_iteration_complete
    def interrupt(state: State) -> None:
        if state.phase == phase and state.iteration == update and state.epoch == 0:
            signal.raise_signal(signum)

    return interrupt


def checkpoint(folder: Path) -> Any:
    return (
        "checkpoint",
        {"dir_path": str(folder), "optimizer_state": True, "file_format": "last.safetensors"},
    )


@pytest.mark.parametrize(
    ("signum", "ending", "code"),
    [
        (signal.SIGINT, KeyboardInterrupt, None),
        (signal.SIGTERM, SystemExit, 143),
        (signal.SIGHUP, SystemExit, 129),
        (signal.SIGUSR1, SystemExit, 128 + signal.SIGUSR1),
    ],
)
def test_a_signal_ends_the_run_after_the_update_and_it_goes_on_from_there(
    signum: int, ending: type[BaseException], code: int | None, tmp_path: Path
) -> None:
    whole = build()
    whole.fit(DATA, num_epochs=2)
    with pytest.raises(ending) as raised:
        build().fit(DATA, num_epochs=2, callbacks=[raising(signum), checkpoint(tmp_path)])
    assert getattr(raised.value, "code", None) == code
    resumed, seen = build(), []
    keep = on_iteration_complete(lambda state: seen.append((state.epoch, state.iteration)))
    resumed.fit(DATA, num_epochs=2, resume=tmp_path, callbacks=[keep])
    assert seen[0] == (0, 3)
    assert same_weights(resumed, whole)


def test_validation_listens_too_and_is_made_again(tmp_path: Path) -> None:
    whole = build()
    expected = whole.fit(DATA, DATA, num_epochs=2)
    with pytest.raises(KeyboardInterrupt):
        build().fit(
            DATA,
            DATA,
            num_epochs=2,
            callbacks=[checkpoint(tmp_path)],
            val_callbacks=[raising(signal.SIGINT, "val")],
        )
    resumed = build()
    assert resumed.fit(DATA, DATA, num_epochs=2, resume=tmp_path) == expected
    assert same_weights(resumed, whole)


def test_a_validation_by_itself_ends_as_well() -> None:
    with pytest.raises(KeyboardInterrupt):
        build().validate(DATA, callbacks=[raising(signal.SIGINT, "val")])


def test_the_event_comes_once_before_the_exception_is_shown() -> None:
    seen: list[str] = []
    model = build()
    listen = [
        argus_core.on_event("interrupted")(lambda state: seen.append("interrupted")),
        argus_core.on_catch_exception(lambda state: seen.append(type(state.exception).__name__)),
    ]
    with pytest.raises(KeyboardInterrupt):
        model.fit(DATA, callbacks=[raising(signal.SIGINT), *listen])
    assert seen == ["interrupted", "Interruption"]


def test_a_signal_after_the_last_update_still_ends_the_process() -> None:
    late = argus_core.on_complete(lambda state: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit):
        build().fit(DATA, callbacks=[late])


def test_a_callback_that_is_used_again_saves_at_the_update_at_which_its_last_run_ended(
    tmp_path: Path,
) -> None:
    again = argus_core.callbacks.Checkpoint(tmp_path, optimizer_state=True)
    build().fit(DATA, callbacks=[again])
    (tmp_path / "model-000.safetensors").unlink()
    with pytest.raises(KeyboardInterrupt):
        build().fit(DATA, callbacks=[raising(signal.SIGINT, update=len(DATA) - 1), again])
    assert [path.name for path in tmp_path.iterdir()] == ["model-000.safetensors"]


class Ending:
    """A loader whose processes a signal ends as they start, as it ends the server of a forkserver."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch  # the first that it fails in

    def __iter__(self) -> Iterator[Any]:
        if self.epoch == 0:
            signal.raise_signal(signal.SIGTERM)
            raise EOFError("unexpected EOF")
        self.epoch -= 1
        return iter(DATA)


def test_a_signal_that_ends_workers_as_they_start_ends_the_run_saved(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as raised:
        build().fit(Ending(1), num_epochs=2, callbacks=[checkpoint(tmp_path / "a")])
    assert raised.value.code == 143
    whole, resumed = build(), build()
    expected = whole.fit(Ending(2), num_epochs=2)
    assert resumed.fit(Ending(2), num_epochs=2, resume=tmp_path / "a") == expected
    assert same_weights(resumed, whole)


def test_a_signal_before_the_first_update_saves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        build().fit(Ending(0), callbacks=[checkpoint(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_the_best_checkpoint_is_left_alone(tmp_path: Path) -> None:
    best = (
        "monitor_checkpoint",
        {"dir_path": str(tmp_path), "monitor": "train_loss", "optimizer_state": True},
    )
    with pytest.raises(KeyboardInterrupt):
        build().fit(DATA, callbacks=[raising(signal.SIGINT), best])
    assert list(tmp_path.iterdir()) == []


def test_handlers_are_there_while_a_run_is_on_and_gone_afterwards() -> None:
    before = list(map(signal.getsignal, SIGNALS))
    during: list[Any] = []
    keep = argus_core.on_start(lambda state: during.extend(map(signal.getsignal, SIGNALS)))
    build().fit(DATA, callbacks=[keep])
    assert all(handler not in before for handler in during)
    assert list(map(signal.getsignal, SIGNALS)) == before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_that_the_process_ignores_stays_ignored(signum: int) -> None:
    signal.signal(signum, signal.SIG_IGN)  # as nohup and a shell's & leave it
    assert "train_loss" in build().fit(DATA, callbacks=[raising(signum)])
    assert signal.getsignal(signum) == signal.SIG_IGN


@pytest.mark.parametrize("again", SIGNALS)
def test_a_signal_that_comes_twice_at_once_is_one(again: int, tmp_path: Path) -> None:
    twice = [raising(signal.SIGTERM), raising(again), raising(again)]
    with pytest.raises(SystemExit) as raised:
        build().fit(DATA, callbacks=[*twice, checkpoint(tmp_path)])
    assert raised.value.code == 143
    assert (tmp_path / "last.safetensors").exists()


def test_the_same_signal_may_still_come_when_the_run_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        build().fit(DATA, callbacks=[raising(signal.SIGTERM)])
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
    monkeypatch.setattr(interruption, "_ONE_SIGNAL", 0.0)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_another_run_listens_after_one_that_a_signal_has_ended(tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        with pytest.raises(SystemExit):
            build().fit(DATA, callbacks=[raising(signal.SIGTERM), checkpoint(folder)])
        assert (folder / "last.safetensors").exists()


def test_a_fork_of_the_process_ends_as_usual() -> None:
    ended: list[int] = []

    @on_iteration_complete
    def fork(state: State) -> None:
        pid = os.fork()
        if pid == 0:
            signal.raise_signal(signal.SIGTERM)
            os._exit(0)
        ended.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    build().fit(DATA[:1], callbacks=[fork])
    assert ended == [-signal.SIGTERM]


def test_a_host_programs_own_handler_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: heard.append(signum))
    try:
        build().fit(DATA, callbacks=[raising(signal.SIGTERM)])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells handlers in C")
def test_a_handler_in_c_stays(tmp_path: Path) -> None:
    with (tmp_path / "stacks").open("w+") as file:
        faulthandler.register(signal.SIGUSR1, file)
        try:
            build().fit(DATA, num_epochs=1, callbacks=[raising(signal.SIGUSR1)])
        finally:
            faulthandler.unregister(signal.SIGUSR1)
        file.seek(0)
        assert "in interrupt" in file.read()


def test_other_threads_train_without_handlers() -> None:
    trained: list[Any] = []
    thread = threading.Thread(target=lambda: trained.append(build().fit(DATA)))
    thread.start()
    thread.join()
    assert trained[0]["train_loss"] > 0


def wait_in_an_update(connection: Connection) -> None:
    """Train until the end of time: the first update never ends."""
    interruption._ONE_SIGNAL = 0.1

    @argus_core.on_iteration_start
    def wait(state: State) -> None:
        connection.send("ready")
        while True:
            time.sleep(0.01)

    with argus_core.isolated_registry(builtins=True):
        register_all()
        build().fit(DATA, callbacks=[wait])


def test_a_later_signal_ends_the_process_at_once() -> None:
    with running(wait_in_an_update) as (process, connection):
        assert connection.recv() == "ready"
        assert process.pid is not None
        os.kill(process.pid, signal.SIGTERM)
        time.sleep(0.2)
        assert process.is_alive()
        os.kill(process.pid, signal.SIGTERM)
        process.join(10)
        assert process.exitcode == -signal.SIGTERM


def own_terminal() -> int:
    """Give this process a terminal of its own, with its output on it, and return the keyboard's end."""
    os.setsid()
    keyboard, terminal = pty.openpty()
    os.close(os.open(os.ttyname(terminal), os.O_RDWR))  # the first that the leader of a session opens
    os.dup2(terminal, 1)
    os.dup2(terminal, 2)
    os.close(terminal)
    return keyboard


def press_keys(connection: Connection) -> None:
    """Press Ctrl-C twice in the first update."""
    keyboard = own_terminal()

    @argus_core.on_iteration_start
    def press(state: State) -> None:
        for _ in range(2):
            os.write(keyboard, b"\x03")
            time.sleep(interruption._ONE_KEY + 0.1)
            connection.send("goes on")

    with argus_core.isolated_registry(builtins=True):
        register_all()
        build().fit(DATA, callbacks=[press])


def test_the_second_ctrl_c_on_a_terminal_ends_the_process_at_once() -> None:
    with running(press_keys) as (process, connection):
        assert connection.recv() == "goes on"
        with pytest.raises(EOFError):
            connection.recv()
        process.join(10)
        assert process.exitcode == -signal.SIGINT


def close_terminal(folder: Path, connection: Connection) -> None:
    """Close the terminal in the first update."""
    keyboard = own_terminal()
    closed = argus_core.on_iteration_start(lambda state: state.iteration or os.close(keyboard))
    with argus_core.isolated_registry(builtins=True):
        register_all()
        build().fit(DATA, callbacks=[closed, "progress", checkpoint(folder)])


def test_a_closed_terminal_ends_the_run_and_it_is_saved(tmp_path: Path) -> None:
    with running(close_terminal, tmp_path) as (process, _):
        process.join(10)
        assert process.exitcode == 128 + signal.SIGHUP
    assert (tmp_path / "last.safetensors").exists()


def test_a_signal_amid_the_handling_of_signals_ends_the_command_with_its_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_handler = signal.signal

    def interrupted(signum: int, handler: Any) -> Any:
        before = set_handler(signum, handler)
        if signum == signal.SIGTERM and handler is not signal.SIG_DFL:
            signal.raise_signal(signum)
        return before

    monkeypatch.setattr(signal, "signal", interrupted)
    with pytest.raises(SystemExit) as ended, interruption.exiting():
        pytest.fail("the block has begun")
    assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
