"""What a fine-tuning combines: each combination resumes exactly after every update, and freezes what it says.

Parameter groups x frozen parts x averages x accumulation x weights from a file.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import batches
from torch import Tensor, nn

import argus_core
from argus_core import Model
from argus_core.callbacks import Checkpoint

GROUPS = {"groups": [{"match": "backbone.*", "lr": 0.02}], "no_decay": "norm_and_bias", "layer_decay": 0.5}
FROZEN = {
    "all_learn": {},
    "freeze": {"freeze": ["backbone.0.*", "backbone.1.*"]},
    "unfreeze_by_layer": {"step": [("unfreeze", {"match": "backbone.*", "after": "1up", "every": "1up"})]},
    "unfreeze_frozen": {
        "freeze": ["backbone.*"],
        "step": [("unfreeze", {"match": ["backbone.1.*", "backbone.4.*"], "after": "50%"})],
    },
    "unfreeze_epoch": {"step": [("unfreeze", {"match": "backbone.*", "after": "1ep"})]},
}
EMA = ("ema", {"decay": 0.8, "buffers": "average"})
ACCUMULATE = ("accumulate", {"steps": 2})
FLAGS = [*itertools.product([False, True], repeat=4)]
# Of these each three flags have all eight combinations.
FEW = [flags for flags in FLAGS if sum(flags) % 2 == 0]


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, 6)
        )
        self.head = nn.Linear(6, 3)

    def forward(self, input: Tensor) -> Tensor:
        scores: Tensor = self.head(self.backbone(input).tanh())
        return scores


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "classifier", Classifier)
        yield


def params_of(frozen: str, groups: bool, averaged: bool, accumulated: bool, base: Path | None) -> Any:
    steps = [*FROZEN[frozen].get("step", ()), *[EMA] * averaged, *[ACCUMULATE] * accumulated]
    return {
        "nn_module": "classifier", "loss": "CrossEntropyLoss", "device": "cpu",
        "optimizer": ("AdamW", {"lr": 0.05, "weight_decay": 0.1, **(GROUPS if groups else {})}),
        **FROZEN[frozen], "step": steps,
        **({"init_from": {"path": base, "skip": ["head.*"]}} if base else {}),
    }  # fmt: skip


def fitted(params: Any, **options: Any) -> Model:
    torch.manual_seed(0)
    model = Model(params)
    schedule = ("warmup_cosine", {"warmup": "1ep", "min_lr": 0.01})
    model.fit(batches(), num_epochs=2, seed=0, lr_scheduler=schedule, **options)
    return model


def everything(model: Model) -> dict[str, Any]:
    """Return all state of a model that further training depends on."""
    network = model.get_nn_module()
    return {
        "weights": network.state_dict(),
        "optimizer": model.optimizer.state_dict(),
        "steps": model.step_state(),
        "learning": [name for name, each in network.named_parameters() if each.requires_grad],
        "asleep": [name for name, each in network.named_modules() if not each.training],
    }


def assert_same(ours: Any, theirs: Any, where: str) -> None:
    if isinstance(theirs, Mapping):
        assert ours.keys() == theirs.keys(), where
        for key, value in theirs.items():
            assert_same(ours[key], value, f"{where}.{key}")
    elif isinstance(theirs, Tensor):
        assert torch.equal(ours, theirs), where
    else:
        assert ours == theirs, where


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
