"""What differs between two nested values is told with the path to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from argus_core.testing.comparison import difference

NAN = float("nan")


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        "text",
        NAN,
        torch.tensor([1.0, NAN]),
        torch.zeros(0, 3),
        {"a": (torch.ones(2), [1, "b"])},
        (torch.tensor([True, False]), torch.tensor(1 + 2j)),
    ],
)
def test_what_is_the_same_does_not_differ(value: Any) -> None:
    assert difference(value, value) is None


@pytest.mark.parametrize(
    ("found", "expected", "told"),
    [
        (1, 2, "it is 1, expected 2"),
        (1, "1", "it is 1, expected '1'"),
        (1.5, 1.0, "it differs by 0.5"),
        (1.0, NAN, "it differs by nan"),
        (torch.ones(2), torch.ones(3), r"it is float32[2], expected float32[3]"),
        (torch.ones(2), torch.ones(2).double(), r"it is float32[2], expected float64[2]"),
        (torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0]), "it differs by 0.5"),
        (torch.tensor(1 + 2j), torch.tensor(1 + 1j), "it differs by 1"),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, "it['a'][1]['b'] is 2, expected 3"),
        ({"a": 1}, {"b": 1}, "it has ['a'], expected ['b']"),
        ([1], [1, 2], "it has 1 entries, expected 2"),
        (None, torch.ones(1), "it is None, expected tensor([1.])"),
    ],
)
def test_what_differs_is_told(found: Any, expected: Any, told: str) -> None:
    assert difference(found, expected) == told


def test_a_tolerance_is_relative_to_the_largest_number() -> None:
    found, expected = torch.tensor([100.0, 0.05]), torch.tensor([100.0, 0.0])
    assert difference(found, expected, tolerance=1e-3) is None
    assert difference(found, expected, tolerance=1e-4) == "it differs by 0.05"
