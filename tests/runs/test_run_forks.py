"""A fork that a callback makes is not the run: it writes neither its log nor its files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from networks import batches, make_model
from processes import sent_by
from small_runs import contents, small_config, small_registry

import argus_core
from argus_core import State
from argus_core.config import read_config
from argus_core.runs.run import train

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no forks")

SAVING = 'callbacks=["checkpoint", {dir_path="run/kept", every="9ep", save_after_exception=true}]'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with the small configuration alone."""
    monkeypatch.chdir(tmp_path)
    small_config(tmp_path)
    return tmp_path


def forking(event: str, then: Callable[[], None], connection: Connection) -> argus_core.Callback:
    """Return a callback that forks once, waits for the fork, and sends how the files changed meanwhile."""
    forked = []

    def fork(state: State) -> None:
        if forked:
            return
        forked.append(True)
        before = contents(Path())
        child = os.fork()
        if child == 0:
            then()
            return
        os.waitpid(child, 0)
        connection.send([name for name, data in contents(Path()).items() if before.get(name) != data])

    return argus_core.on_event(event)(fork)


def within(work: Callable[[], None]) -> None:
    """Do what makes a fork, and end the fork without what the test's process ends with."""
    torch.set_num_threads(1)  # a fork has none of OpenMP's threads, and would wait for them for ever
    process = os.getpid()
    try:
        work()
    except BaseException:
        if os.getpid() == process:
            raise
    if os.getpid() != process:
        os._exit(0)


def fail() -> None:
    raise RuntimeError("in the fork")


ENDS = {"exit": sys.exit, "fail": fail, "go on": lambda: None}


def run(event: str, end: str, connection: Connection) -> None:
    fork = forking(event, ENDS[end], connection)

    def work() -> None:
        with small_registry():
            train(read_config(Path("small.toml"), [SAVING, "num_epochs=2"]), callbacks=[fork])

    within(work)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("event", ["start", "iteration_complete", "epoch_complete", "checkpoint_saved"])
def test_fork_of_a_run_changes_none_of_its_files(event: str, end: str, folder: Path) -> None:
    assert [*sent_by(run, event, end)] == [[]]
    log = (folder / "run" / "log.txt").read_text("utf-8")
    assert "ended by an exception" not in log
    assert log.count("train complete") == 1
    assert (folder / "run" / "metrics.jsonl").read_text("utf-8").count("\n") == 2


def fit(end: str, connection: Connection) -> None:
    fork = forking("iteration_complete", ENDS[end], connection)
    callbacks = [
        ("logging_to_file", {"file_path": "log.txt"}),
        ("checkpoint", {"dir_path": "kept", "every": "9ep", "save_after_exception": True}),
        fork,
    ]

    def work() -> None:
        with small_registry():
            make_model().fit(batches(), num_epochs=1, callbacks=callbacks)

    within(work)


@pytest.mark.parametrize("end", ["exit", "fail"])
def test_exception_in_a_fork_of_a_fit_is_none_of_the_fit(end: str, folder: Path) -> None:
    assert [*sent_by(fit, end)] == [[]]
    assert "ended by an exception" not in (folder / "log.txt").read_text("utf-8")
    assert [*(folder / "kept").iterdir()] == []
