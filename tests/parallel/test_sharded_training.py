"""Several processes that hold shards of one model train as one process does, for every strategy."""

from __future__ import annotations

from typing import Any

import pytest
from process_pool import in_processes
from shared_runs import largest_difference, train
from test_same_training import EXACT, RUNS

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
