"""The examples keep their word: each runs as a user would run it, learns, and loads again by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.utils.data import DataLoader

import argus_core
from argus_core import cli, discovery
from argus_core.registry import isolated_registry
from argus_core.storage import CheckpointFile

EXAMPLES = Path(__file__).parent.parent / "examples"
CONFIGS = sorted(path.name for path in EXAMPLES.glob("*.toml"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder, with what is installed registered and nothing else."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    with isolated_registry() as registry:
        registry.update(discovery.scan())
        yield tmp_path
    torch.set_num_threads(threads)  # which a configuration may have changed


def train(config: str, *options: str) -> float:
    """Train by the command line into the folder ``run``; return the best accuracy that it tells."""
    arguments = ["train", str(EXAMPLES / config), "--run-dir", "run", "--device", "cpu", *options]
    result = CliRunner().invoke(cli.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    best = re.search(r"^best val_accuracy: (\S+) \(epoch \d+\)$", result.output, re.MULTILINE)
    assert best is not None
    return float(best[1])


def digits(split: str) -> torch.utils.data.TensorDataset:
    dataset: torch.utils.data.TensorDataset = argus_core.resolve("dataset", "digits").load()(split=split)
    return dataset


@pytest.mark.parametrize("config", CONFIGS)
def test_config_reaches_97_percent_and_its_checkpoint_the_same_to_the_last_digit(
    config: str, folder: Path
) -> None:
    best = train(config)
    assert best >= 0.97
    model = argus_core.load_model(folder / "run/checkpoints/best.safetensors", optimizer=None)
    loader = DataLoader(digits("val"), batch_size=32)
    assert model.validate(loader, metrics=["accuracy"])["val_accuracy"] == best


def test_checkpoint_of_the_ema_example_predicts_with_the_averaged_weights(folder: Path) -> None:
    train("digits_sam_ema.toml", "--set", "num_epochs=1")
    checkpoint = folder / "run/checkpoints/best.safetensors"
    with CheckpointFile(checkpoint) as file:
        stored = file.read()
    averages = under("ema/averages/", stored)
    network: nn.Module = argus_core.resolve("nn_module", "cnn").load()(classes=10)
    network.load_state_dict(averages)
    images = digits("val")[:8][0]
    with torch.no_grad():
        expected = network.eval()(images).softmax(1)
    assert not torch.equal(averages["classifier.1.weight"], stored["nn/classifier.1.weight"])
    assert torch.equal(argus_core.load_model(checkpoint).predict(images), expected)


def under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
