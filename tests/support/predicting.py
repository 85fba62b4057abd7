"""A classifier of rows and a regression that know their data, for tests of prediction on files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from networks import Net

import argus_core
from argus_core.data.description import DataDescription

FEATURES = ("a", "b", "c", "d")
CLASSES = ("cat", "dog", "emu")


def described(scale: float = 1.0) -> Any:
    """Stand for a dataset whose rows are multiplied by ``scale``."""
    raise AssertionError("prediction builds no dataset")


class Scaled:
    """Makes an input of a row."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, row: list[float]) -> torch.Tensor:
        return self.scale * torch.tensor(row)


def _scaled(scale: float = 1.0) -> Scaled:
    return Scaled(scale)


described.prepares = {"row": _scaled}  # type: ignore[attr-defined]


def classifier(parallel: Any = "auto", **changes: Any) -> argus_core.Model:
    """Return a model of three classes and four features, of random weights that are always the same.

    Args:
        parallel: the engine of several processes.
        **changes: of what it knows of its data.
    """
    argus_core.register("nn_module", "net", Net, override=True)
    argus_core.register("dataset", "described", described, override=True)
    torch.manual_seed(0)
    params = {"nn_module": ("net", {"hidden": 8}), "prediction_transform": ("Softmax", {"dim": 1})}
    model = argus_core.Model({**params, "device": "cpu", "parallel": parallel})
    known: dict[str, Any] = {
        "specs": {"train": "described", "val": ("described", {"scale": 0.5}), "batch_size": 4},
        "classes": CLASSES,
        "feature_names": FEATURES,
        **changes,
    }
    model.data = DataDescription(**known)
    return model


def write_rows(path: Path, count: int, columns: tuple[str, ...] = FEATURES, seed: int = 0) -> torch.Tensor:
    """Write a table of random numbers, and return those of the features in their order."""
    rows = torch.randn(count, len(FEATURES), generator=torch.Generator().manual_seed(seed))
    rows = (100 * rows).round() / 100
    places = [FEATURES.index(name) for name in columns]
    lines = [",".join(columns), *(",".join(f"{row[place]:.2f}" for place in places) for row in rows)]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return rows
