"""A fine-tuning in two processes is that of one, whatever it combines, and resumes to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fine_tuning import FLAGS, FROZEN, Classifier, assert_same, classifiers, everything, fitted, params_of
from process_pool import in_processes
from torch import nn

from argus_core.callbacks import Checkpoint

SGD = ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1})  # Adam divides rounding by rounding
# Each two flags have all four combinations.
PAIRS = [
    (False, False, False, False), (False, True, True, True), (True, False, True, True),
    (True, True, False, True), (True, True, True, False),
]  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Combine all flags with ``--long-matrix``."""
    flags = FLAGS if metafunc.config.getoption("long_matrix") else PAIRS
    metafunc.parametrize("frozen", FROZEN)
    metafunc.parametrize(("groups", "averaged", "accumulated", "starts_from_file"), flags)


def run(params: Any, folder: Path | None = None, resume: Path | None = None) -> dict[str, Any]:
    with classifiers():
        keep = [] if folder is None else [
            Checkpoint(folder, every="1up", optimizer_state=True, file_format="{step}.safetensors")
        ]  # fmt: skip
        return everything(fitted(params, callbacks=keep, resume=resume))


def test_two_processes_fine_tune_as_one_does_and_resume_exactly(
    frozen: str, groups: bool, averaged: bool, accumulated: bool, starts_from_file: bool, tmp_path: Path
) -> None:
    base = tmp_path / "base.pth" if starts_from_file else None
    if base:
        torch.manual_seed(7)
        torch.save(Classifier(nn.LayerNorm).state_dict(), base)
    params = params_of(frozen, groups, averaged, accumulated, base, "invariant", SGD)
    whole = in_processes(2, run, params, tmp_path)
    alone = run(params)
    for own in whole:
        assert own["learning"] == alone["learning"]
        torch.testing.assert_close(own["weights"], alone["weights"], rtol=0, atol=2e-6)
    for step in (1, 3):
        resumed = in_processes(2, run, params, None, tmp_path / f"{step}.safetensors")
        for own, before in zip(resumed, whole, strict=True):
            assert_same(own, before, f"after {step} updates")
