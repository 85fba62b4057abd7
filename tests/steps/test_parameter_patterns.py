"""Frozen parts of a network: no gradients, statistics and modes as they are, kept by checkpoints and runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import CONFIG
from torch import nn

import argus_core
from argus_core import BuildError, Model, ParamsError, load_model
from argus_core.callbacks import Checkpoint
from argus_core.config import read_config
from argus_core.errors import ConfigError

BATCHES = [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(4)]


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.neck = nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.neck(self.backbone(input)))
        return scores


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "classifier", Classifier)
        yield


def model(freeze: Any = ("backbone.*", "neck.bias"), **params: Any) -> Model:
    torch.manual_seed(0)
    return Model({
        "nn_module": "classifier",
        "loss": "CrossEntropyLoss",
        "optimizer": ("SGD", {"lr": 0.5, "weight_decay": 0.1}),
        "device": "cpu",
        "freeze": freeze if freeze is None or isinstance(freeze, str) else list(freeze),
        **params,
    })  # fmt: skip


def values(model: Model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.get_nn_module().state_dict().items()}


def test_frozen_parts_keep_weights_statistics_and_modes() -> None:
    frozen = model()
    before = values(frozen)
    frozen.fit(BATCHES, val_loader=BATCHES, num_epochs=2)
    changed = {name for name, value in values(frozen).items() if not torch.equal(value, before[name])}
    assert changed == {"neck.weight", "head.weight", "head.bias"}
    modes = {name: module.training for name, module in frozen.nn_module.named_modules()}
    assert not any(mode for name, mode in modes.items() if name.startswith("backbone"))
    assert all(modes[name] for name in ("", "neck", "head"))


def test_training_equals_that_of_a_network_frozen_by_hand() -> None:
    ours = model()
    ours.fit(BATCHES)
    torch.manual_seed(0)
    network = Classifier()
    network.backbone.requires_grad_(False).eval()
    network.neck.bias.requires_grad_(False)
    learning = [each for each in network.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.5, weight_decay=0.1)
    for input, target in BATCHES:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(input), target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in values(ours).items())


@pytest.mark.parametrize("strategies", [[("accumulate", {"steps": 2})], ["ema"], ["sam"], ["amp"]])
def test_frozen_parts_stay_with_step_strategies(strategies: list[Any]) -> None:
    frozen = model(step=strategies)
    before = values(frozen)
    frozen.fit(BATCHES, val_loader=BATCHES)
    after = values(frozen)
    for name in before:
        if name.startswith("backbone") or name == "neck.bias":
            assert torch.equal(before[name], after[name]), name


def test_a_checkpoint_keeps_what_is_frozen(tmp_path: Path) -> None:
    frozen = model()
    frozen.fit(BATCHES)
    frozen.save(tmp_path / "model.safetensors", optimizer_state=True)
    loaded = load_model(tmp_path / "model.safetensors", device="cpu")
    assert [each.requires_grad for each in loaded.nn_module.parameters()] == [
        each.requires_grad for each in frozen.nn_module.parameters()
    ]
    frozen.fit(BATCHES, seed=1)
    loaded.fit(BATCHES, seed=1)
    assert all(torch.equal(value, values(loaded)[name]) for name, value in values(frozen).items())


def test_a_resumed_run_with_frozen_parts_equals_one_without_a_stop(tmp_path: Path) -> None:
    def run(**options: Any) -> dict[str, torch.Tensor]:
        built = model()
        every = Checkpoint(tmp_path, file_format="{epoch}.safetensors", optimizer_state=True)
        built.fit(BATCHES, val_loader=BATCHES, num_epochs=3, callbacks=[every], seed=0, **options)
        return values(built)

    whole, resumed = run(), run(resume=tmp_path / "0.safetensors")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        ([3], r"freeze is \[3\]; give a pattern of parameter names or a list"),
        ([], r"freeze is \[\]; give a pattern"),
        (["x*"] * 101, "give a pattern"),
        (["*a" * 501], "give a pattern"),
        (
            "backbon.*",
            r"freeze: 'backbon\.\*' matches no parameter; .*; did you mean 'backbone\.\*'",
        ),
    ],
)
def test_a_wrong_pattern_is_one_sentence(freeze: Any, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        model(freeze)


def test_a_network_that_is_frozen_whole_cannot_be_optimized_but_predicts() -> None:
    with pytest.raises(BuildError, match="no parameter of nn_module or loss requires grad"):
        model("*")
    assert model("*", optimizer=None).predict(torch.zeros(1, 4)).shape == (1, 2)


def test_a_configuration_freezes(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(CONFIG.replace("[data]", 'freeze = ["hidden.*"]\n[data]'))
    assert read_config(path).params["freeze"] == ["hidden.*"]
    path.write_text(CONFIG.replace("[data]", "freeze = [3]\n[data]"))
    with pytest.raises(ConfigError, match="a pattern of parameter names, or a list of them"):
        read_config(path)
