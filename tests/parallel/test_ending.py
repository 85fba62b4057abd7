"""The end of a run of several processes: all end after the same update, or because one of them has failed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from process_pool import Failed, Pool, in_processes
from shared_runs import data_for, made, train, trained
from torch import distributed
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, Sampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

import argus_core
from argus_core.parallel.ending import _is_lost, ending_together
from argus_core.registry.registry import isolated_registry
from argus_core.tensors.processes import process_count


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def stopping_at(update: int, ranks: tuple[int, ...]) -> Any:
    @argus_core.on_iteration_complete
    def stop(state: Any) -> None:
        if state.phase == "train" and state.global_step >= update and rank() in ranks:
            state.stopped = True

    return stop


def stopped(update: int, ranks: tuple[int, ...], **fit: Any) -> int:
    result = train({}, {"callbacks": [stopping_at(update, ranks)], **fit})
    return int(result["updates"])


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [((0, 1), 3), ((0,), 4), ((1,), 4)],
)
def test_all_stop_after_the_same_update(ranks: tuple[int, ...], expected: int) -> None:
    assert in_processes(2, stopped, 3, ranks) == [expected] * 2


def test_a_stop_in_the_last_update_of_an_epoch_ends_all() -> None:
    assert in_processes(2, stopped, 8, (1,)) == [8, 8]


def test_a_time_limit_ends_all_after_the_same_update() -> None:
    results = in_processes(3, timed)
    assert len({*results}) == 1


def timed() -> int:
    @argus_core.on_iteration_complete
    def wait(state: Any) -> None:
        time.sleep(0.01 * (1 + rank()))

    return int(train({}, {"callbacks": [wait], "num_epochs": 10**4, "max_time": "0.005min"})["updates"])


def interrupted(folder: Path, ranks: tuple[int, ...], signum: int, times: int) -> tuple[str, int]:
    updates: list[int] = []

    @argus_core.on_iteration_complete
    def send(state: Any) -> None:
        updates.append(state.global_step)
        if state.phase == "train" and state.global_step == 3 and rank() in ranks:
            for _ in range(times):
                os.kill(os.getpid(), signum)

    checkpoint = ("checkpoint", {"dir_path": str(folder), "optimizer_state": True})
    before = signal.getsignal(signum)
    try:
        train({}, {"callbacks": [send, checkpoint]})
    except (SystemExit, KeyboardInterrupt) as error:
        return repr(error), updates[-1]
    finally:
        signal.signal(signum, before)
    return "", updates[-1]


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("ranks", [(0,), (1,), (0, 1)])
def test_a_signal_ends_all_with_one_whole_checkpoint(
    ranks: tuple[int, ...], times: int, tmp_path: Path
) -> None:
    began = time.monotonic()
    results = in_processes(2, interrupted, tmp_path, ranks, signal.SIGTERM, times)
    assert time.monotonic() - began < 5
    assert {ended for ended, _ in results} == {"SystemExit(143)"}
    assert len({updates for _, updates in results}) == 1
    (file,) = tmp_path.glob("*.safetensors")
    resumed = in_processes(2, _resumed, file)
    alone = train({})
    assert resumed[0]["weights"] == resumed[1]["weights"]
    assert resumed[0]["updates"] == alone["updates"]
    assert resumed[0]["metrics"] == pytest.approx(alone["metrics"], abs=1e-6)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_process_is_the_signal_of_all(rank: int, tmp_path: Path) -> None:
    results = in_processes(2, interrupted, tmp_path, (rank,), signal.SIGINT, 1)
    assert {ended for ended, _ in results} == {"KeyboardInterrupt()"}


def _resumed(file: Path) -> dict[str, Any]:
    return train({}, {"resume": file})


def interrupted_in_validation(folder: Path, ranks: tuple[int, ...], seconds: float) -> tuple[str, int, int]:
    """Train with a validation of 120 batches, and send a signal in the third."""
    seen = [0, 0]

    @argus_core.on_iteration_complete
    def send(state: Any) -> None:
        seen[0] += 1
        time.sleep(seconds)
        if seen[0] == 3 and rank() in ranks:
            os.kill(os.getpid(), signal.SIGTERM)

    @argus_core.on_iteration_complete
    def count(state: Any) -> None:
        seen[1] = state.global_step

    checkpoint = ("checkpoint", {"dir_path": str(folder), "optimizer_state": True})
    before = signal.getsignal(signal.SIGTERM)
    rows = torch.zeros(4, 6), torch.zeros(4, dtype=torch.long)
    with isolated_registry(builtins=True):
        model = made({})
        try:
            model.fit(
                [rows] * 8,
                [rows] * 120,
                num_epochs=2,
                seed=3,
                callbacks=[count, checkpoint],
                val_callbacks=[send],
            )
        except SystemExit as error:
            return repr(error), seen[1], seen[0]
        finally:
            signal.signal(signal.SIGTERM, before)
    return "", *seen


@pytest.mark.parametrize("seconds", [0.05, 0.5])
@pytest.mark.parametrize("ranks", [(0,), (1,), (0, 1)])
def test_a_signal_ends_a_long_validation_of_all(
    ranks: tuple[int, ...], seconds: float, tmp_path: Path
) -> None:
    began = time.monotonic()
    results = in_processes(2, interrupted_in_validation, tmp_path, ranks, seconds)
    assert time.monotonic() - began < 3 * seconds + 5
    assert {ended for ended, *_ in results} == {"SystemExit(143)"}
    assert {updates for _, updates, _ in results} == {8}
    assert len({batches for *_, batches in results}) == 1
    (file,) = tmp_path.glob("*.safetensors")
    assert in_processes(2, _resumed, file)[0]["updates"] == 16


def validation_messages(batches: int) -> int:
    """Return how many messages a validation of quick batches takes."""
    count = 0
    original = distributed.all_reduce

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        return original(*args, **kwargs)

    rows = torch.zeros(4, 6), torch.zeros(4, dtype=torch.long)
    with isolated_registry(builtins=True):
        model = made({})
        distributed.all_reduce = counted
        try:
            model.validate([rows] * batches)
        finally:
            distributed.all_reduce = original
    return count


def test_a_validation_sends_few_messages() -> None:
    few, many = in_processes(2, validation_messages, 4)[0], in_processes(2, validation_messages, 400)[0]
    assert many - few <= 12


def unequal(counts: tuple[int, ...]) -> dict[str, float]:
    with isolated_registry(builtins=True):
        model = made({"parallel": ("ddp", {"sharded_already": True})})
        return model.validate(DataLoader(Part(counts), 4))


def test_a_validation_of_parts_may_end_earlier_in_one_process() -> None:
    first, second = in_processes(2, unequal, (40, 8))
    assert first == second


def stopped_in_validation() -> int:
    seen = 0

    @argus_core.on_iteration_complete
    def stop(state: Any) -> None:
        nonlocal seen
        seen += 1
        state.stopped = state.stopped or seen == 3

    with isolated_registry(builtins=True):
        rows = torch.zeros(4, 6), torch.zeros(4, dtype=torch.long)
        made({}).validate([rows] * 50, callbacks=[stop])
    return seen


def test_a_callback_stops_a_validation() -> None:
    assert in_processes(2, stopped_in_validation) == [3, 3]


def failing(failing_rank: int) -> None:
    @argus_core.on_iteration_complete
    def fail(state: Any) -> None:
        if state.global_step == 2 and rank() == failing_rank:
            raise ZeroDivisionError("of the user's own")

    train({}, {"callbacks": [fail]})


@pytest.mark.parametrize("failing_rank", [0, 1])
def test_an_exception_in_one_process_ends_all_within_seconds(failing_rank: int) -> None:
    began = time.monotonic()
    results = in_processes(2, failing, failing_rank, may_fail=True)
    assert time.monotonic() - began < 10
    own, other = results[failing_rank], results[1 - failing_rank]
    assert own.kind == "ZeroDivisionError"
    assert f"in process {failing_rank} of 2" in own.trace
    assert other.kind == "EndedByOtherError"
    assert other.message == f"process {failing_rank} of 2 failed: ZeroDivisionError: of the user's own"


def failing_within_a_command(failing_rank: int) -> None:
    with ending_together():
        failing(failing_rank)


def test_an_exception_has_one_note_of_its_process_and_the_others_none() -> None:
    own, other = in_processes(2, failing_within_a_command, 0, may_fail=True)
    assert own.trace.count("in process 0 of 2") == 1
    assert other.kind == "EndedByOtherError"
    assert "in process 1 of 2" not in other.trace


def killed(killed_rank: int) -> None:
    @argus_core.on_iteration_complete
    def kill(state: Any) -> None:
        if state.global_step == 2 and rank() == killed_rank:
            time.sleep(8)

    train({"parallel": "ddp"}, {"callbacks": [kill]})


def test_a_process_that_hangs_is_named() -> None:
    began = time.monotonic()
    pool = Pool(2, timeout=2)
    results = pool.run(killed, 1, may_fail=True)
    pool.close()
    assert time.monotonic() - began < 60
    assert "process 1 of 2 did not answer" in results[0].message


@pytest.mark.parametrize(
    ("error", "is_of_others"),
    [
        (RuntimeError("Connection closed by peer [127.0.0.1]:4711"), True),
        (RuntimeError("Timed out waiting 5000ms for recv operation to complete"), True),
        (RuntimeError("DataLoader timed out after 5 seconds"), False),
        (ValueError("timed out"), False),
    ],
)
def test_only_the_loss_of_a_connection_is_blamed_on_others(error: Exception, is_of_others: bool) -> None:
    assert _is_lost(error) == is_of_others


class Part(IterableDataset[Any]):
    """The part of a stream that belongs to this process."""

    def __init__(self, counts: tuple[int, ...]) -> None:
        self.count = counts[rank()]

    def __iter__(self) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(rank())
        for _ in range(self.count):
            yield torch.randn(6, generator=generator), torch.randint(4, (), generator=generator)


def streamed(counts: tuple[int, ...], sharded: bool) -> dict[str, Any]:
    with isolated_registry(builtins=True):
        model = made({"parallel": ("ddp", {"sharded_already": sharded})})
        return model.fit(DataLoader(Part(counts), 4), num_epochs=2, seed=1)


def test_a_loader_that_is_sharded_already_is_not_sliced() -> None:
    metrics = in_processes(2, streamed, (16, 16), True)
    assert metrics[0] == metrics[1]


def test_a_stream_that_is_not_said_to_be_sharded_is_refused() -> None:
    results = in_processes(2, streamed, (16, 16), False, may_fail=True)
    assert "sharded_already" in results[0].message


class Unseeded(Sampler[int]):
    """Draws an order from a generator that nothing seeds."""

    def __len__(self) -> int:
        return 53

    def __iter__(self) -> Iterator[int]:
        return iter(numpy.random.default_rng().permutation(53).tolist())


def sampled(kind: str, sharded: bool, batched: bool = False) -> dict[str, Any]:
    with isolated_registry(builtins=True):
        model = made({"parallel": ("ddp", {"sharded_already": sharded})})
        if kind == "unseeded":
            loader = DataLoader(data_for("dense", 53), 7, sampler=Unseeded())
            return model.fit(loader, num_epochs=1, seed=1)
        samples = data_for("dense", 48)
        sampler: Any = DistributedSampler(samples, process_count(), rank(), shuffle=False)
        if not distributed.is_initialized():
            sampler = SequentialSampler(samples)
        size = 6 // process_count()
        loader = DataLoader(samples, size, sampler=sampler, drop_last=True)
        if batched:
            loader = DataLoader(samples, batch_sampler=BatchSampler(sampler, size, True))
        return model.fit(loader, num_epochs=1, seed=1)


def test_processes_whose_samplers_draw_other_orders_are_refused() -> None:
    results = in_processes(2, sampled, "unseeded", False, may_fail=True)
    assert {each.kind for each in results} == {"ConflictError"}
    assert "the order of train epoch 1 differs between process 0 and process 1" in results[0].message
    assert "Unseeded draws from what neither seed nor epoch decides" in results[0].message


@pytest.mark.parametrize("batched", [False, True])
def test_a_sampler_that_knows_of_the_processes_is_refused(batched: bool) -> None:
    results = in_processes(2, sampled, "distributed", False, batched, may_fail=True)
    assert all("has a sampler that knows of the processes" in each.message for each in results)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("batched", [False, True])
def test_the_parts_of_such_a_sampler_are_not_sliced_again(count: int, batched: bool) -> None:
    alone = sampled("distributed", True, batched)
    for together in in_processes(count, sampled, "distributed", True, batched):
        assert together == pytest.approx(alone, abs=1e-6)


def test_a_loader_that_ends_early_in_one_process_is_told() -> None:
    results = in_processes(2, streamed, (16, 8), True, may_fail=True)
    assert any(
        "the number of train" in each.message or "has ended in 1 of 2" in each.message for each in results
    )


def differing(what: str, folder: str) -> None:
    params: dict[str, Any] = {}
    fit: dict[str, Any] = {}
    samples = 53
    if rank():
        match what:
            case "seed":
                fit["seed"] = 4
            case "data":
                samples = 50
            case "params":
                params["optimizer"] = ("SGD", {"lr": 0.2})
            case "epochs":
                fit["num_epochs"] = 3
            case "schedule":
                fit["lr_scheduler"] = ("StepLR", {"step_size": 1})
            case "checkpoint":
                fit["callbacks"] = [("checkpoint", {"dir_path": folder})]
    train(params, fit, samples)


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("seed", "seed is 3 in process 0 and 4"),
        ("data", "the number of train samples is 53"),
        ("params", "the model's params"),
        ("epochs", "num_epochs is '2' in process 0 and '3'"),
        ("schedule", "the list of learning-rate schedules is [] in process 0 and ['StepLR']"),
        ("checkpoint", "the list of checkpoint callbacks is [] in process 0 and ['checkpoint']"),
    ],
)
def test_processes_that_differ_are_refused_by_name(what: str, named: str, tmp_path: Path) -> None:
    results = in_processes(2, differing, what, str(tmp_path), may_fail=True)
    assert {each.kind for each in results} == {"ConflictError"}
    assert all(named in each.message for each in results)


def refused(what: str) -> None:
    with isolated_registry(builtins=True):
        match what:
            case "single":
                made({"parallel": "single"})
            case "batch":
                trained(made({}), {}, samples=8, batch_size=1)
            case "dry run of shards":
                trained(made({"parallel": "fsdp"}), {"dry_run": True}, samples=8, batch_size=4)
            case "generator":
                made({}).fit(iter([]))  # type: ignore[arg-type]
            case "sparse":
                made({"optimizer": "SparseAdam"})


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("single", "parallel is 'single' in a run of 2 processes"),
        ("batch", "batch_size of the train loader is 1, and 2 processes"),
        ("dry run of shards", "parallel 'fsdp' has it in shards, which cannot be copied; try it by argus"),
        ("sparse", "parallel 'ddp' does not go with"),
    ],
)
def test_what_cannot_be_shared_is_refused(what: str, sentence: str) -> None:
    results = in_processes(2, refused, what, may_fail=True)
    assert all(isinstance(each, Failed) and sentence in each.message for each in results)
