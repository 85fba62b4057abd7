"""A small configuration with the network and the data that it names, for tests of runs and of the CLI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from networks import Net
from torch.utils.data import TensorDataset

import argus_core

CONFIG = """
[model]
nn_module = ["net", { hidden = 8 }]
loss = "CrossEntropyLoss"
optimizer = ["SGD", { lr = 0.1 }]
prediction_transform = ["Softmax", { dim = 1 }]
step = ["accumulate", { steps = 2 }]
device = "cpu"

[data]
train = ["points", { split = "train" }]
val = ["points", { split = "val" }]
batch_size = 8

[fit]
num_epochs = 3
metrics = ["accuracy"]
monitor = "val_accuracy"
seed = 0
run_dir = "run"
"""


class Points(TensorDataset):
    """A dataset that a run reads sample by sample, in workers if there are some."""


def points(split: str = "train", samples: int = 30) -> TensorDataset:
    """Return samples of three classes, (4,) float and int64, the same in every process."""
    generator = torch.Generator().manual_seed(["train", "val", "test"].index(split))
    target = torch.randint(3, (samples,), generator=generator)
    centres = torch.eye(3, 4)[target]
    return Points(centres + 0.5 * torch.randn(samples, 4, generator=generator), target)


def broken_points() -> TensorDataset:
    """Return samples of which every loss is nan."""
    return TensorDataset(torch.full((8, 4), torch.nan), torch.zeros(8, dtype=torch.long))


@contextmanager
def small_registry() -> Iterator[None]:
    """Register what the configuration names, beside the built-in components alone."""
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "net", Net)
        argus_core.register("dataset", "points", points)
        yield


def small_config(folder: Path, more: str = "", name: str = "small.toml") -> Path:
    """Write the configuration, with ``more`` at its end, and return its path."""
    path = folder / name
    path.write_text(CONFIG + more, "utf-8")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file in a folder, by name."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
