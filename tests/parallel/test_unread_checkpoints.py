"""A checkpoint that one process cannot read ends all, at once and with its sentence."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from process_pool import in_processes
from shared_runs import made, train
from torch import distributed

from argus_core import ArgusError, load_model
from argus_core.parallel.ending import ending_together
from argus_core.registry.registry import isolated_registry
from argus_core.tensors.processes import saving_group

SECONDS = 50  # the timeout of an operation; no process may wait as long
SHARD = "00001-of-00002.safetensors"


def written(folder: Path) -> None:
    options = {"dir_path": str(folder), "optimizer_state": True, "sharded": "auto"}
    train({"parallel": "fsdp"}, {"callbacks": [("checkpoint", options)], "num_epochs": 1})


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return a checkpoint of two shards, and copies of it: one lacks a shard, one is damaged in each."""
    folder = tmp_path_factory.mktemp("hosts")
    in_processes(2, written, folder / "whole")
    (whole,) = (folder / "whole").iterdir()
    lacking, damaged = (
        Path(shutil.copytree(whole, folder / name / whole.name)) for name in ("lacking", "damaged")
    )
    (lacking / SHARD).unlink()
    for file in damaged.glob("*.safetensors"):
        data = bytearray(file.read_bytes())
        data[-3] ^= 1
        file.write_bytes(data)
    return [whole, lacking, damaged]


def outcome(job: Any, rank: int, good: Path, bad: Path, parallel: str) -> None:
    with isolated_registry(builtins=True):
        job(bad if distributed.get_rank() == rank else good, (parallel, {"timeout": SECONDS}))


def resume(path: Path, parallel: Any) -> None:
    train({"parallel": parallel}, {"resume": path})


def load(path: Path, parallel: Any) -> None:
    made({})
    load_model(path, parallel=parallel)


def assert_ended(job: Any, rank: int, good: Path, bad: Path, parallel: str) -> None:
    began = time.monotonic()
    results = in_processes(2, outcome, job, rank, good, bad, parallel, may_fail=True)
    assert time.monotonic() - began < SECONDS / 2
    own, other = results[rank], results[1 - rank]
    assert own.kind == "CorruptCheckpointError"
    assert other.kind == "EndedByOtherError"
    assert other.message == f"process {rank} of 2 failed: CorruptCheckpointError: {own.message}"


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_that_cannot_be_resumed_in_one_process_ends_in_all(
    rank: int, parallel: str, hosts: list[Path]
) -> None:
    assert_ended(resume, rank, hosts[0], hosts[1 + rank], parallel)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_model_that_cannot_be_loaded_in_one_process_ends_all(parallel: str, hosts: list[Path]) -> None:
    assert_ended(load, 1, hosts[0], hosts[1], parallel)


def open_group(rank: int) -> None:
    distributed.barrier()  # all are in their pool
    with ending_together():
        if distributed.get_rank() == rank:
            raise OSError("the disk is gone")
        saving_group()  # whose timeout is half an hour


def test_no_process_waits_in_the_opening_of_a_group_for_one_that_has_ended() -> None:
    began = time.monotonic()
    results = in_processes(2, open_group, 1, may_fail=True)
    assert time.monotonic() - began < 15
    assert results[0].message == "process 1 of 2 failed: OSError: the disk is gone"


def load_another(good: Path, bad: Path) -> list[float]:
    with isolated_registry(builtins=True):
        made({})
        for _ in range(2):
            with pytest.raises(ArgusError):
                load_model(bad, parallel=("fsdp", {"timeout": SECONDS}))
        model = load_model(good, parallel=("fsdp", {"timeout": SECONDS}))
    full: list[float] = next(iter(model.nn_module.parameters())).full_tensor().flatten().tolist()
    return full


def test_where_all_processes_fail_alike_a_script_may_try_another_checkpoint(hosts: list[Path]) -> None:
    first, second = in_processes(2, load_another, hosts[0], hosts[1])
    assert first == second
