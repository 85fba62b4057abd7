"""SIGINT and SIGTERM: a run ends after the present update, saved; a second signal ends it at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from networks import batches
from strategies import build, register_all, same_weights
from torch import multiprocessing

import argus_core
from argus_core import State, on_iteration_complete

DATA = batches((4, 3, 5, 2))


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
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
    [(signal.SIGINT, KeyboardInterrupt, None), (signal.SIGTERM, SystemExit, 143)],
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


def test_the_best_checkpoint_is_left_alone(tmp_path: Path) -> None:
    best = (
        "monitor_checkpoint",
        {"dir_path": str(tmp_path), "monitor": "train_loss", "optimizer_state": True},
    )
    with pytest.raises(KeyboardInterrupt):
        build().fit(DATA, callbacks=[raising(signal.SIGINT), best])
    assert list(tmp_path.iterdir()) == []


def test_handlers_are_there_while_a_run_is_on_and_gone_afterwards() -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    during: list[Any] = []
    keep = argus_core.on_start(
        lambda state: during.extend(map(signal.getsignal, (signal.SIGINT, signal.SIGTERM)))
    )
    build().fit(DATA, callbacks=[keep])
    assert all(handler not in before for handler in during)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_host_programs_own_handler_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: heard.append(signum))
    try:
        build().fit(DATA, callbacks=[raising(signal.SIGTERM)])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_other_threads_train_without_handlers() -> None:
    trained: list[Any] = []
    thread = threading.Thread(target=lambda: trained.append(build().fit(DATA)))
    thread.start()
    thread.join()
    assert trained[0]["train_loss"] > 0


def wait_in_an_update(folder: Path) -> None:
    """Train until the end of time: the first update never ends."""

    @argus_core.on_iteration_start
    def wait(state: State) -> None:
        (folder / "ready").touch()
        while True:
            time.sleep(0.01)

    build().fit(DATA, callbacks=[wait])


def test_the_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=wait_in_an_update, args=(tmp_path,))
    process.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    time.sleep(0.1)
    assert process.is_alive()
    os.kill(process.pid, signal.SIGTERM)
    process.join(10)
    assert process.exitcode == -signal.SIGTERM
