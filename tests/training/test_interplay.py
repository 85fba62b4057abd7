"""A fine-tuning resumes exactly after every update, whatever it combines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fine_tuning import (
    FEW,
    FLAGS,
    FROZEN,
    Classifier,
    assert_same,
    classifiers,
    everything,
    fitted,
    params_of,
)

from argus_core.callbacks import Checkpoint


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    with classifiers():
        yield


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Combine all flags with ``--long-matrix``."""
    flags = FLAGS if metafunc.config.getoption("long_matrix") else FEW
    metafunc.parametrize("frozen", FROZEN)
    metafunc.parametrize(("groups", "averaged", "accumulated", "starts_from_file"), flags)


def test_a_combination_resumes_exactly_after_every_update(
    frozen: str, groups: bool, averaged: bool, accumulated: bool, starts_from_file: bool, tmp_path: Path
) -> None:
    base = tmp_path / "base.pth" if starts_from_file else None
    if base:
        torch.manual_seed(7)
        torch.save(Classifier().state_dict(), base)
    params = params_of(frozen, groups, averaged, accumulated, base)
    keep = Checkpoint(tmp_path, every="1up", optimizer_state=True, file_format="{step}.safetensors")
    whole = everything(fitted(params, callbacks=[keep]))
    updates = 4 if accumulated else 6
    for step in range(1, updates):
        resumed = fitted(params, resume=tmp_path / f"{step}.safetensors")
        assert_same(everything(resumed), whole, f"after {step} updates")
