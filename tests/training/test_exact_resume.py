"""A run that is resumed from any of its updates has the next one, and all that follows from it, to the bit.

Each update of a run writes a checkpoint: weights, optimizer, running metrics, callbacks and generators. A run
that is resumed from one must write the next as the whole run did. So it would write all later ones too.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from networks import PARAMS
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
)

import argus_core
from argus_core.storage import read_header

UPDATES = 8
SAMPLES = 11
EVERY: dict[str, Any] = {"every": "1up", "optimizer_state": True}


class Noisy(nn.Sequential):
    """Draws random numbers in training and in validation."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 3))

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = super().forward(input)
        return output + 0.1 * torch.rand(3)


def sample(index: int) -> tuple[Tensor, int]:
    noise = random.gauss(0, 1) + numpy.random.randn() * (index % 3 == 0)
    return torch.full((4,), index / 9) + torch.randn(4) + noise, index % 3


class Drawn(Dataset[Any]):
    """Draws from all generators, of some not for each sample."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            samples = [sample(each) for each in index]
            return torch.stack([each[0] for each in samples]), torch.tensor([each[1] for each in samples])
        return sample(index)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        start, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return map(sample, range(start, SAMPLES, step))


class Own:
    """A sampler of no class of torch's, with a generator of its own."""

    def __init__(self) -> None:
        self.random = random.Random()

    def __len__(self) -> int:
        return SAMPLES

    def __iter__(self) -> Iterator[int]:
        return iter(self.random.choices(range(SAMPLES), k=SAMPLES))


class Endless(Own):
    def __iter__(self) -> Iterator[int]:
        while True:
            yield random.randrange(SAMPLES)

    __len__ = None  # type: ignore[assignment]


WORKERS: dict[str, Any] = {"num_workers": 2}
LOADERS: dict[str, Any] = {
    "shuffled": lambda: DataLoader(Drawn(), 3, shuffle=True),
    "in memory": lambda: DataLoader(TensorDataset(torch.randn(11, 4), torch.arange(11) % 3), 3, shuffle=True),
    "with replacement": lambda: DataLoader(
        Drawn(), 3, sampler=RandomSampler(Drawn(), replacement=True, num_samples=11)
    ),
    "by weights": lambda: DataLoader(Drawn(), 3, sampler=WeightedRandomSampler(range(1, 12), 11)),
    "own sampler": lambda: DataLoader(Drawn(), 3, sampler=Own()),  # type: ignore[arg-type]
    "without an end": lambda: DataLoader(Drawn(), 3, sampler=Endless()),  # type: ignore[arg-type]
    "batches as samples": lambda: DataLoader(
        Drawn(), None, sampler=BatchSampler(RandomSampler(Drawn()), 3, False)
    ),
    "a stream": lambda: DataLoader(Stream(), 3),
    "2 workers": lambda: DataLoader(Drawn(), 3, shuffle=True, **WORKERS),
    "2 persistent workers": lambda: DataLoader(Drawn(), 3, sampler=Own(), persistent_workers=True, **WORKERS),  # type: ignore[arg-type]
    "a stream in 2 workers": lambda: DataLoader(Stream(), 2, drop_last=True, **WORKERS),
}


@pytest.mark.parametrize("name", LOADERS)
def test_every_update_is_that_of_the_run_which_was_not_interrupted(name: str, tmp_path: Path) -> None:
    def fit(folder: Path, updates: int, **options: Any) -> None:
        torch.manual_seed(0)
        model = argus_core.Model({**PARAMS, "nn_module": "noisy", "optimizer": ("AdamW", {"lr": 0.01})})
        plateau = ("ReduceLROnPlateau", {"monitor": "val_loss", "patience": 0, "threshold": 10.0})
        model.fit(
            LOADERS[name](),
            DataLoader(Drawn(), 6),
            num_updates=updates,
            validate_every="3up",
            limit_train=UPDATES - 1 if name == "without an end" else None,
            metrics=["accuracy"],
            metrics_on_train=True,
            lr_scheduler=[plateau, ("ExponentialLR", {"gamma": 0.9, "interval": "update"})],
            callbacks=[("checkpoint", {"dir_path": str(folder), **EVERY})],
            **options,
        )

    with argus_core.isolated_registry(builtins=True), warnings.catch_warnings():
        warnings.simplefilter("error")
        argus_core.register("nn_module", "noisy", Noisy)
        fit(tmp_path / "whole", UPDATES + 1, seed=5)
        whole = {update_of(path): path for path in (tmp_path / "whole").iterdir()}
        assert whole.keys() == set(range(1, UPDATES + 2))
        for update in range(1, UPDATES):
            folder = tmp_path / str(update)
            torch.manual_seed(update)
            fit(folder, update + 2, resume=whole[update])
            resumed = {update_of(path): path for path in folder.iterdir()}
            assert contents(resumed[update + 1]) == contents(whole[update + 1]), update


def update_of(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def contents(path: Path) -> dict[str, Any]:
    """Return all that a checkpoint holds of a run, besides its time and files; of tensors the checksums."""
    manifest = read_header(path).manifest
    progress = manifest["progress"]
    del progress["counters"]["seconds"], progress["callback"]["checkpoint"]
    return {key: manifest[key] for key in ("tensors", "optimizer", "progress", "modes")}
