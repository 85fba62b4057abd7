"""The results of each class, compared with counts by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from argus_core.metrics.class_table import ClassResult, ClassTable


def counted(*steps: tuple[Any, Any], **options: Any) -> list[ClassResult] | None:
    table = ClassTable(**options)
    table.reset()
    for prediction, target in steps:
        table.update({"prediction": prediction, "target": target})
    assert table.compute() == {}
    return table.rows


def scores(*classes: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), 3).float()


def test_rows_are_those_of_counts_by_hand() -> None:
    rows = counted((scores(0, 0, 1), torch.tensor([0, 1, 1])), (scores(0), torch.tensor([0])))
    assert rows is not None
    assert rows[:2] == [ClassResult(2, 2 / 3, 1.0, 0.8), ClassResult(2, 1.0, 0.5, 2 / 3)]
    assert rows[2].targets == 0
    assert all(map(math.isnan, (rows[2].precision, rows[2].recall, rows[2].f1)))


def test_pixels_are_counted_without_the_ignored_ones() -> None:
    prediction = scores(0, 1, 2, 2).T.reshape(1, 3, 2, 2)
    target = torch.tensor([[[0, 1], [-100, 1]]])
    rows = counted((prediction, target))
    assert rows is not None
    assert [(row.targets, row.recall) for row in rows[:2]] == [(1, 1.0), (2, 0.5)]
    ignored = counted((prediction, target), ignore_index=1)
    assert ignored is not None
    assert [row.targets for row in ignored] == [1, 0, 0]


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_binary_predictions_have_two_classes_if_there_is_a_threshold(shape: tuple[int, ...]) -> None:
    step = (
        torch.tensor([0.1, 0.6, 0.9, 0.2]).reshape(shape),
        torch.tensor([0.0, 1.0, 0.0, 1.0]).reshape(shape),
    )
    rows = counted(step, threshold=0.5)
    assert rows == [ClassResult(2, 0.5, 0.5, 0.5), ClassResult(2, 0.5, 0.5, 0.5)]
    assert counted(step) is None


@pytest.mark.parametrize(
    "step",
    [
        (torch.zeros(4, 3), torch.zeros(4, 3)),
        (torch.zeros(4, 3), torch.zeros(4)),
        (torch.zeros(4, 1), torch.zeros(4, 1)),
        (torch.zeros(()), torch.zeros(())),
        ([torch.zeros(4, 3)], torch.zeros(4, dtype=torch.int64)),
        (torch.zeros(4, 3), {"boxes": torch.zeros(4)}),
        (None, None),
    ],
)
def test_other_data_have_no_table(step: tuple[Any, Any]) -> None:
    assert counted(step, (scores(0), torch.tensor([0]))) is None


def test_states_of_several_processes_add_up() -> None:
    parts = []
    for step in ((scores(0, 1), torch.tensor([0, 0])), (scores(2), torch.tensor([2])), None):
        table = ClassTable()
        table.reset()
        if step is not None:
            table.update({"prediction": step[0], "target": step[1]})
        parts.append(table.state_dict())
    whole = ClassTable()
    whole.load_state_dict(whole.merge(parts))
    whole.compute()
    assert whole.rows == counted((scores(0, 1, 2), torch.tensor([0, 0, 2])))
