"""The values of an epoch's metrics: one or several of a metric, each under a name of its own."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from networks import batches
from planned_runs import small_model

from argus_core import BuildError, ConflictError, Metric
from argus_core.metrics.values import compute_all

CPU = torch.device("cpu")


class Gives(Metric):
    """Computes what it is told to."""

    name = "curve"

    def __init__(self, value: Any, several: bool = False, name: str | None = None) -> None:
        super().__init__(name)
        self.value = value
        self.several = several

    def update(self, step_output: Mapping[str, Any]) -> None: ...

    def compute(self) -> Any:
        return self.value


@pytest.mark.parametrize("several", [False, True])
def test_a_number_has_the_metrics_name(several: bool) -> None:
    assert compute_all([Gives(torch.tensor(2), several)], "val", CPU) == {"val_curve": 2.0}


def test_each_of_several_values_has_a_name() -> None:
    metric = Gives({"recall": 0.5, 3: torch.tensor(math.inf)}, several=True)
    values = compute_all([Gives(1, name="other"), metric], "train", CPU)
    assert values == {"train_other": 1.0, "train_curve_recall": 0.5, "train_curve_3": math.inf}
    assert all(type(value) is float for value in values.values())


def test_several_values_may_be_none() -> None:
    assert compute_all([Gives({}, several=True)], "val", CPU) == {}


@pytest.mark.parametrize(
    ("value", "several", "message"),
    [
        ("two", False, "'two', which is not a number; return a float from compute"),
        (None, True, "None, which is not a number; return a float from compute"),
        ({"a": 1}, False, "which is not a number; set several = True for values by name"),
        ({"a": {"b": 1}}, True, "{'b': 1}, which is not a number; set several"),
    ],
)
def test_what_is_no_number_is_refused(value: Any, several: bool, message: str) -> None:
    with pytest.raises(BuildError, match=f"^metric 'curve' computed .*{re.escape(message)}"):
        compute_all([Gives(value, several)], "val", CPU)


def test_two_values_of_one_name_are_refused() -> None:
    metrics = [Gives(1, name="f1_0"), Gives({0: 1}, several=True, name="f1")]
    with pytest.raises(ConflictError, match="metric 'f1' computed a value 'f1_0', which is another metric's"):
        compute_all(metrics, "val", CPU)


def test_a_run_has_the_values_by_name() -> None:
    with small_model() as model:
        values = model.validate(batches(), metrics=[Gives({"a": 1, "b": 2}, several=True)])
    assert list(values) == ["val_loss", "val_curve_a", "val_curve_b"]
