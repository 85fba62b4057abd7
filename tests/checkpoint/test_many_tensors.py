"""A network of many small tensors is saved, loaded, resumed and inspected, with its optimizer's state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from networks import same_weights
from torch import nn

import argus_core
from argus_core import Model, load_model
from argus_core.cli import main
from argus_core.storage import manifest, read_header

COUNT = 250  # five tensors each with the state of AdamW
PER_TENSOR = 30  # values in a manifest, at least


class Many(nn.Module):
    """Adds many weights to its input."""

    def __init__(self, count: int = COUNT) -> None:
        super().__init__()
        self.weights = nn.ParameterList([torch.full((2,), index / count) for index in range(count)])

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input + torch.stack([*self.weights]).sum(0)


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # As many values for a 16th of the tensors: it takes thousands to exceed what a small file may hold.
    monkeypatch.setattr(manifest, "MAX_VALUES", manifest.MAX_VALUES // 16)
    with argus_core.isolated_registry(builtins=True) as registry:
        registry.register("nn_module", "many", Many)
        yield


def build(**params: Any) -> Model:
    chosen = {"loss": "MSELoss", "optimizer": ("AdamW", {"lr": 0.1, "amsgrad": True}), "device": "cpu"}
    return Model({"nn_module": ("many", params), **chosen})


def test_many_tensors_with_the_state_of_the_optimizer_are_saved_loaded_and_resumed(tmp_path: Path) -> None:
    data = [(torch.zeros(3, 2), torch.ones(3, 2))] * 2
    keep = ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True, "max_saves": 1})
    model = build()
    model.fit(data, num_epochs=1, callbacks=[keep])
    (path,) = tmp_path.iterdir()
    assert len(read_header(path).entries) > 5 * COUNT
    assert 5 * COUNT * PER_TENSOR > manifest.MAX_VALUES
    loaded = load_model(path)
    assert same_weights(loaded, model)
    assert len(loaded.optimizer.state_dict()["state"]) == COUNT
    shown = CliRunner().invoke(main, ["inspect", str(path)])
    assert shown.exit_code == 0
    resumed = build()
    resumed.fit(data, num_epochs=2, callbacks=[keep], resume=path)
    model.fit(data, num_epochs=1)
    assert same_weights(resumed, model)
