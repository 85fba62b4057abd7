"""States of several processes made one, as the metric's author declared it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchmetrics
from torch import Tensor

from argus_core import UnsafeCheckpointError
from argus_torchmetrics.state import get_state, merge, set_state


class Every(torchmetrics.Metric):
    """Has a state of each sort, and a metric of its own inside."""

    def __init__(self) -> None:
        super().__init__()
        for reduction in ("sum", "mean", "max", "min"):
            self.add_state(reduction, torch.zeros(2), dist_reduce_fx=reduction)
        self.add_state("joined", torch.zeros(0), dist_reduce_fx="cat")
        self.add_state("stacked", torch.zeros(2), dist_reduce_fx=None)
        self.add_state("own", torch.zeros(2), dist_reduce_fx=lambda stacked: stacked.prod(0))
        self.add_state("listed", [], dist_reduce_fx="cat")
        self.inner = torchmetrics.MeanMetric()

    def update(self, value: Tensor) -> None:
        for name in ("sum", "mean", "max", "min", "stacked", "own", "joined"):
            setattr(self, name, value.clone())
        self.listed.append(value)
        self.inner.update(value)

    def compute(self) -> Tensor:
        return self.inner.compute()


def updated(*values: float) -> Every:
    metric = Every()
    metric.update(torch.tensor(values, dtype=torch.float32))
    return metric


def test_each_state_is_reduced_as_declared() -> None:
    merged = Every()
    set_state(merged, merge(merged, [get_state(updated(1, 8)), get_state(updated(3, 2))]))
    assert merged.sum.tolist() == [4, 10]
    assert merged.mean.tolist() == [2, 5]
    assert merged.max.tolist() == [3, 8]
    assert merged.min.tolist() == [1, 2]
    assert merged.joined.tolist() == [1, 8, 3, 2]
    assert merged.stacked.tolist() == [[1, 8], [3, 2]]
    assert merged.own.tolist() == [3, 16]
    assert [value.tolist() for value in merged.listed] == [[1, 8], [3, 2]]
    assert merged.inner.compute() == 3.5
    assert (merged.update_count, merged.inner.update_count) == (2, 2)


def test_a_process_that_has_seen_nothing_takes_no_part() -> None:
    merged = Every()
    set_state(merged, merge(merged, [get_state(Every()), get_state(updated(3, 2)), get_state(Every())]))
    for name in ("sum", "mean", "max", "min", "stacked", "own", "joined"):
        assert getattr(merged, name).tolist() == [3, 2]
    assert merged.inner.compute() == 2.5


def test_where_nothing_was_seen_nothing_is_there() -> None:
    merged = merge(Every(), [get_state(Every()), get_state(Every())])
    assert merged["updates"] == 0
    assert merged["sum"].tolist() == [0, 0]


def test_a_state_that_was_taken_out_stays_as_it_was() -> None:
    metric = torchmetrics.MeanSquaredError()
    metric.update(torch.zeros(2), torch.ones(2))
    state = get_state(metric)
    metric.update(torch.zeros(2), torch.full((2,), 3.0))
    set_state(metric, state)
    assert metric.compute() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"updates": -1}, "'updates' is -1; it must be an integer from 0 up"),
        ({"updates": "x"}, "'updates' is 'x'"),
        ({"sum_squared_error": [1]}, r"'sum_squared_error' is \[1\]; it must be a tensor"),
        ({"total": None}, "'total' is None; it must be a tensor"),
        ({"compute": 5}, "'compute' is unknown; it has updates, sum_squared_error, total"),
    ],
)
def test_a_state_that_no_metric_writes_is_refused(change: dict[str, Any], message: str) -> None:
    metric = torchmetrics.MeanSquaredError()
    with pytest.raises(UnsafeCheckpointError, match=f"state of metric 'MeanSquaredError' .*: {message}"):
        set_state(metric, {**get_state(metric), **change})


def test_a_state_without_a_key_is_refused() -> None:
    metric = torchmetrics.AUROC("binary")
    set_state(metric, get_state(metric))
    state = {key: value for key, value in get_state(metric).items() if key != "preds"}
    with pytest.raises(UnsafeCheckpointError, match="'preds' is missing; do not trust this file"):
        set_state(metric, state)
