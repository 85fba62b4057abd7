"""Training takes one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from networks import Net, batches
from torch import distributed, multiprocessing

import argus_core
from argus_core import Model
from argus_core.errors import ConfigError
from argus_core.tensors.single_process import check_single_process


def small_model() -> Model:
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "net", Net)
        return Model({"nn_module": "net", "loss": "CrossEntropyLoss", "optimizer": "SGD", "device": "cpu"})


@pytest.mark.parametrize("count", [2, 64])
def test_fit_under_torchrun_is_refused_before_a_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(count))
    log = ("logging_to_file", {"file_path": str(tmp_path / "log.txt")})
    with pytest.raises(
        ConfigError, match=f"^fit runs in {count} processes; it trains in one until several are"
    ):
        small_model().fit(batches(), callbacks=[log])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "0", "1", " ", "-2", "two", "²"])
def test_environment_of_one_process_or_of_another_program_trains(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", text)
    check_single_process("fit")


def outcome_in_a_group(rank: int, folder: Path, size: int) -> None:
    """Train, and validate, in a process of a group; write down what is refused."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    model = small_model()
    told: Any = "trained"
    try:
        model.fit(batches())
    except ConfigError as error:
        told = str(error)
    model.train_step(batches()[0])
    (folder / f"{rank}.txt").write_text(told)
    distributed.destroy_process_group()


@pytest.mark.parametrize(("size", "told"), [(1, "trained"), (2, "fit runs in 2 processes; it trains in one")])
def test_fit_in_a_process_group_of_several_is_refused_and_single_updates_are_not(
    tmp_path: Path, size: int, told: str
) -> None:
    multiprocessing.start_processes(  # type: ignore[no-untyped-call]
        outcome_in_a_group, (tmp_path, size), nprocs=size, start_method="fork"
    )
    for rank in range(size):
        assert (tmp_path / f"{rank}.txt").read_text().startswith(told)
