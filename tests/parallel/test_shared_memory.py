"""The memory that processes of one host share, and what a run does without it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from process_pool import in_processes
from shared_runs import largest_difference, train
from torch import distributed, nn
from torch.utils.data import DataLoader, TensorDataset

import argus_core
from argus_core.parallel import group, shared_memory
from argus_core.parallel.single import Single
from argus_core.tensors.exchange import Exchange


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(shared_memory, "_FOLDER", tmp_path)
    monkeypatch.setattr(shared_memory, "_open", [])
    yield tmp_path
    shared_memory.close_board()


def hold(path: str, token: bytes, connection: Any) -> None:
    shared_memory._open.clear()
    memory = shared_memory._mapped(path, 64, token, 1)
    connection.send(memory is not None)
    signal.pause()


def test_a_killed_process_has_left_its_place(folder: Path) -> None:
    path, token = shared_memory._made(64) or ("", "")
    assert shared_memory._mapped(path, 64, bytes.fromhex(token), 0) is not None
    context = get_context("fork")
    own, other = context.Pipe()
    process = context.Process(target=hold, args=(path, bytes.fromhex(token), other))
    process.start()
    assert own.recv()
    assert not shared_memory._is_lost(1)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert shared_memory._is_lost(1)


def test_another_file_of_the_name_is_not_taken(folder: Path) -> None:
    path, _ = shared_memory._made(64) or ("", "")
    assert shared_memory._mapped(path, 64, bytes(16), 0) is None
    assert shared_memory._mapped(f"{path}x", 64, bytes(16), 0) is None


def test_a_link_is_not_followed(folder: Path) -> None:
    path, token = shared_memory._made(64) or ("", "")
    (folder / "link").symlink_to(path)
    assert shared_memory._mapped(str(folder / "link"), 64, bytes.fromhex(token), 0) is None


def left_over() -> list[str]:
    before = {*os.listdir("/dev/shm")}
    with reopened(lambda: None):
        return sorted({*os.listdir("/dev/shm")} - before)


@contextmanager
def reopened(change: Callable[[], None]) -> Iterator[None]:
    """Open another board for the block."""
    change()
    distributed.barrier()
    group._board.clear()
    group.shared_board(Single.timeout)
    distributed.barrier()
    try:
        yield
    finally:
        group._board.clear()


def test_no_file_stays() -> None:
    assert in_processes(2, left_over) == [[], []]


def apart(which: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in processes that have no board, as on several hosts."""
    folder = shared_memory._FOLDER

    def change() -> None:
        if which == "none has the folder" or distributed.get_rank() == 1:
            shared_memory._FOLDER = Path("/nonexistent")
        if which == "another has other files" and distributed.get_rank() == 1:
            shared_memory._mapped = lambda *_: None  # type: ignore[assignment]

    mapped = shared_memory._mapped
    try:
        with reopened(change):
            assert group._board[1] is None
            return function(*args)
    finally:
        shared_memory._FOLDER, shared_memory._mapped = folder, mapped


RUNS: dict[str, dict[str, Any]] = {
    "ddp": {"params": {"step": [("accumulate", {"steps": 2})]}},
    "fsdp": {"params": {"parallel": "fsdp"}},
    "fsdp with micro-batches": {"params": {"parallel": "fsdp", "step": [("microbatch", {"size": 2})]}},
}


@pytest.mark.parametrize(
    ("name", "which"),
    [*((name, "none has the folder") for name in RUNS), ("ddp", "another has other files")],
)
def test_processes_on_several_hosts_train_as_one_does(name: str, which: str) -> None:
    run = RUNS[name]
    alone = train({key: value for key, value in run["params"].items() if key != "parallel"})
    for together in in_processes(2, apart, which, _train, run):
        assert largest_difference(together, alone) <= 1e-6


def _train(run: dict[str, Any]) -> dict[str, Any]:
    return train(**run)


def stopped(ranks: tuple[int, ...]) -> int:
    @argus_core.on_iteration_complete
    def stop(state: Any) -> None:
        if state.phase == "train" and state.global_step >= 3 and distributed.get_rank() in ranks:
            state.stopped = True

    return int(train({}, {"callbacks": [stop]})["updates"])


@pytest.mark.parametrize(("ranks", "expected"), [((0, 1), 3), ((0,), 4), ((1,), 4)])
def test_processes_on_several_hosts_stop_together(ranks: tuple[int, ...], expected: int) -> None:
    assert in_processes(2, apart, "none has the folder", stopped, ranks) == [expected] * 2


def messages(loss: str, kind: str, engine: str) -> int:
    """Return how many messages of the exchange an epoch of 6 updates has."""
    torch.manual_seed(0)
    rows = torch.randn(48, 6)
    target = torch.randint(4, (48,)) if loss == "CrossEntropyLoss" else torch.randn(48, 4)
    data = TensorDataset(rows, target)
    loaders: dict[str, Any] = {
        "list": [*zip(rows.split(8), target.split(8), strict=True)],
        "memory": DataLoader(data, 8, shuffle=True),
        "samples": DataLoader([*data], 8, shuffle=True),  # type: ignore[arg-type]
        "own collation": DataLoader([*data], 8, collate_fn=collate),  # type: ignore[arg-type]
    }

    class Own(argus_core.Model):
        nn_module = {"linear": lambda: nn.Sequential(nn.Linear(6, 4))}

    params = {"nn_module": ("linear", {}), "loss": loss, "optimizer": ("SGD", {"lr": 0.1}), "device": "cpu"}
    model = Own({**params, "parallel": engine})
    counted: list[int] = []

    @argus_core.on_epoch_start
    def begin(state: Any) -> None:
        counted.append(0)

    numbers = Exchange._numbers

    def count(exchange: Exchange, *given: float) -> Any:
        counted[-1:] = [counted[-1] + 1] if counted else []
        return numbers(exchange, *given)

    Exchange._numbers = count  # type: ignore[method-assign]
    try:
        model.fit(loaders[kind], callbacks=[begin])
    finally:
        Exchange._numbers = numbers  # type: ignore[method-assign]
    return counted[0]


def collate(samples: list[Any]) -> Any:
    return [torch.stack(each) for each in zip(*samples, strict=True)]


OF_EPOCH = 1  # at its end


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
@pytest.mark.parametrize(
    ("loss", "kind", "expected"),
    [
        ("CrossEntropyLoss", "list", 0),
        ("CrossEntropyLoss", "memory", 0),
        ("CrossEntropyLoss", "samples", 6),  # another process may have targets that are ignored
        ("MSELoss", "list", 0),
        ("MSELoss", "memory", 0),
        ("MSELoss", "samples", 0),
        ("MSELoss", "own collation", 6),  # which may pad targets
    ],
)
def test_an_update_has_a_message_only_for_weights_that_are_not_known(
    loss: str, kind: str, expected: int, engine: str
) -> None:
    assert in_processes(2, messages, loss, kind, engine) == [expected + OF_EPOCH] * 2
