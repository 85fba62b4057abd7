"""Several processes that hold shards of one model train as one process does, for every strategy."""

from __future__ import annotations

from itertools import combinations
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


def test_a_process_with_an_empty_shard_clips_as_the_others_do() -> None:
    run = RUNS["clipped largest entry"]  # the bias of 4 numbers has none in the third process
    for together in in_processes(3, sharded, run):
        assert largest_difference(together, train(**run)) <= EXACT


def sharded(run: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Train with shards; called in each process."""
    return train(**{**run, "params": {**run["params"], "parallel": ("fsdp", options)}})


STRATEGIES: dict[str, Any] = {
    "accumulate": ("accumulate", {"steps": 2}),
    "microbatch": ("microbatch", {"chunks": 2}),
    "clip_grad_norm": ("clip_grad_norm", {"max_norm": 0.1}),
    "clip_grad_value": ("clip_grad_value", {"clip_value": 0.01}),
    "ema": ("ema", {"decay": 0.9}),
    "finite_guard": "finite_guard",
    "sam": "sam",
    "closure": "closure",
    "amp": ("amp", {"dtype": "bfloat16"}),
    "unfreeze": ("unfreeze", {"match": "0.*", "after": "1up"}),
}
PAIRS = [pair for pair in combinations(STRATEGIES, 2) if {*pair} != {"sam", "closure"}]  # one owns the slot


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_pairs_of_strategies_take_shards(pair: tuple[str, str]) -> None:
    run = {"params": {"step": [STRATEGIES[name] for name in pair]}, "fit": {"num_epochs": 1}, "samples": 26}
    alone = train(**run)
    for together in in_processes(2, sharded, run):
        assert largest_difference(together, alone) <= (1e-2 if "amp" in pair else EXACT)


def test_a_compiled_network_takes_shards() -> None:
    run = {"params": {"step": [("compile", {"backend": "eager"})]}, "fit": {"num_epochs": 1}, "samples": 26}
    alone = train({}, **{name: run[name] for name in ("fit", "samples")})
    for together in in_processes(2, sharded, run):
        assert largest_difference(together, alone) <= EXACT


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
