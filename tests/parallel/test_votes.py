"""The votes on an update of several processes: one message, and one verdict."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from process_pool import in_processes
from shared_runs import made
from torch import Tensor, distributed

import argus_core
from argus_core import ArgusError, hookimpl
from argus_core.registry.registry import isolated_registry

BATCH = torch.ones(4, 6), torch.tensor([0, 1, 2, 3])


class SecondRefuses:
    """Refuses every update in the second process alone."""

    @hookimpl
    def allow_update(self) -> bool:
        return distributed.get_rank() == 0


def messages(steps: list[Any]) -> int:
    """Return how many messages add or compare numbers of the processes in an update."""
    count = 0
    original = distributed.all_reduce

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        return original(*args, **kwargs)

    with isolated_registry(builtins=True):
        argus_core.register("step", "second_refuses", SecondRefuses)
        model = made({"step": steps})
        model.train_step(BATCH)
        distributed.all_reduce = counted
        try:
            model.train_step(BATCH)
        finally:
            distributed.all_reduce = original
    return count


@pytest.mark.parametrize("steps", [["finite_guard"], ["finite_guard", "second_refuses"]])
def test_all_votes_travel_in_one_message(steps: list[Any]) -> None:
    without, with_votes = in_processes(2, messages, []), in_processes(2, messages, steps)
    assert [each - 1 for each in with_votes] == without


def result(steps: list[Any], spoiled: bool) -> str:
    """Return how an update ends; in the second process the batch may be spoiled."""
    input, target = BATCH
    with isolated_registry(builtins=True):
        argus_core.register("step", "second_refuses", SecondRefuses)
        model = made({"step": steps})
        rows: Tensor = input * float("nan") if spoiled and distributed.get_rank() else input
        try:
            output: Any = model.train_step((rows, target))
        except ArgusError as error:
            return str(error)[:28]
    return str(output.stepped)


@pytest.mark.parametrize(
    ("policy", "spoiled", "expected"),
    [
        ("raise", False, "False"),
        ("skip", False, "False"),
        ("raise", True, "the update is not finite: a "),
        ("skip", True, "False"),
    ],
)
def test_the_guard_raises_for_its_own_vote_alone(policy: str, spoiled: bool, expected: str) -> None:
    steps = [("finite_guard", {"policy": policy}), "second_refuses"]
    first, second = in_processes(2, result, steps, spoiled)
    assert first == expected
    assert second == expected.replace(": a ", ": th")
