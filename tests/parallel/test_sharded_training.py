"""Several processes that hold shards of one model train as one process does, for every strategy."""

from __future__ import annotations

from typing import Any

import pytest
from process_pool import in_processes
from shared_runs import largest_difference, train
from test_same_training import EXACT, RUNS
from torch import distributed

import argus_core

REFUSED = {"LBFGS", "channels_last", "micro-batches that may halve"}


@pytest.mark.parametrize("name", [name for name in RUNS if name not in REFUSED])
def test_shards_train_as_one_process_does(name: str) -> None:
    run = dict(RUNS[name])
    error = run.pop("error", EXACT)
    alone = train(**run)
    for together in in_processes(2, sharded, run):
        assert largest_difference(together, alone) <= error


def sharded(run: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Train with shards; called in each process."""
    return train(**{**run, "params": {**run["params"], "parallel": ("fsdp", options)}})


def stopped_in_one_process(update: int, loss: Any) -> int:
    @argus_core.on_iteration_complete
    def stop(state: Any) -> None:
        if state.phase == "train" and state.global_step == update and distributed.get_rank() == 1:
            state.stopped = True

    params = {"parallel": ("fsdp", {"timeout": 5}), "loss": loss}
    return int(train(params, {"callbacks": [stop]})["updates"])


@pytest.mark.parametrize("loss", ["CrossEntropyLoss", "focused"])
@pytest.mark.parametrize(("count", "update", "last"), [(2, 3, 4), (3, 3, 4), (2, 8, 8)])
def test_all_stop_after_the_same_update(count: int, update: int, last: int, loss: str) -> None:
    assert in_processes(count, stopped_in_one_process, update, loss) == [last] * count
