"""Targets and predictions of parts, joined where the model's declared dimension is elsewhere than first."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from argus_core.tensors.batch import batch_size, deep_split
from argus_core.tensors.joining import Layout, layout_of

STEPS, SAMPLES, CLASSES = 9, 8, 4


def ctc_batch() -> list[Tensor]:
    """Return sequences time first, and their targets and lengths samples first."""
    return [torch.randn(STEPS, SAMPLES, 2), torch.ones(SAMPLES, 3), torch.full((SAMPLES,), STEPS)]


def layout(dim: Any, batch: Any, target: Any, size: int = 3) -> tuple[Layout, list[Any]]:
    parts = deep_split(batch, size, dim)
    found = layout_of(parts, target(parts[0]), dim, lambda part: batch_size(part, dim))
    assert found is not None
    return found, [target(part) for part in parts]


def test_nothing_declared_has_no_layout() -> None:
    assert layout_of([torch.ones(3)], None, None, batch_size) is None


@pytest.mark.parametrize("size", [3, 4])
def test_a_prediction_time_first_of_targets_samples_first_is_joined_along_the_samples(size: int) -> None:
    batch, prediction = ctc_batch(), torch.randn(STEPS, SAMPLES, CLASSES)
    found, targets = layout([1, 0, 0], batch, lambda part: part[1:], size)
    torch.testing.assert_close(found.joined_targets(targets), batch[1:])
    parts = prediction.split(size, dim=1)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(found.joined_predictions(parts), prediction)


def test_a_value_of_every_sample_is_returned_once() -> None:
    batch = {"x": torch.ones(STEPS, SAMPLES), "weight": torch.ones(3)}
    found, targets = layout({"x": 1, "weight": None}, batch, lambda part: part)
    assert found.joined_targets(targets)["weight"] is batch["weight"]


def test_a_prediction_that_no_declaration_fits_is_joined_along_its_first_dimension() -> None:
    found, _ = layout([1, 0, 0], ctc_batch(), lambda part: part[1], 4)
    parts = [torch.ones(5, 2), torch.ones(6, 2)]
    assert found.joined_predictions(parts).shape == (11, 2)
    assert found._replace(counts=None).joined_predictions(parts).shape == (11, 2)


def test_a_list_of_samples_is_joined_entry_by_entry() -> None:
    batch = (torch.ones(STEPS, SAMPLES), [{"boxes": torch.ones(count, 4)} for count in range(SAMPLES)])
    found, targets = layout([1, "entries"], batch, lambda part: part[1])
    assert [len(sample["boxes"]) for sample in found.joined_targets(targets)] == [*range(SAMPLES)]
