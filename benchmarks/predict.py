"""Prediction on files against a hand-written loop over the same loader, and its memory.

It makes 100,000 rows and 5,000 images, in a temporary folder.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

import argus_core
from argus_core.data.description import DataDescription
from argus_core.data.readers import AbstractReader

ROUNDS = 7
ROWS, IMAGES, FEATURES, CLASSES = 100_000, 5_000, 20, 10


class Images(AbstractReader):
    """Reads images as argus-torchvision does; torchvision itself is not needed."""

    suffixes, sort, is_single = (".jpg",), "image", True

    def samples(self, path: str) -> Any:
        """Yield the image."""
        yield "", lambda: _read(path)


def _read(path: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _to_tensor(image: Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(image.resize((32, 32)))).permute(2, 0, 1)
    return pixels.float() / 255


def model_of(sort: str) -> argus_core.Model:
    """Return a small network for rows or images."""
    torch.manual_seed(0)
    network = (
        nn.Sequential(
            nn.Linear(FEATURES, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, CLASSES),
        )
        if sort == "rows"
        else nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(32, CLASSES),
        )
    )  # fmt: skip
    argus_core.register("nn_module", "network", lambda: network, override=True)
    argus_core.register("reader", "images", Images, override=True)
    params = {"nn_module": "network", "prediction_transform": ("Softmax", {"dim": 1}), "device": "cpu"}
    model = argus_core.Model(params)
    names = tuple(f"f{number}" for number in range(FEATURES))
    model.data = DataDescription(
        classes=tuple(f"class {number}" for number in range(CLASSES)),
        feature_names=names if sort == "rows" else None,
    )
    return model


def predictions_of(model: argus_core.Model, path: str) -> Any:
    """Return the predictions on a table or on a folder of images."""
    return model.predict_on(
        path, prepare={"image": _to_tensor} if Path(path).is_dir() else None, batch_size=64
    )


def by_hand(model: argus_core.Model, path: str, _: Path) -> None:
    """Predict in a loop over the same loader, and keep the best class of each sample."""
    network, best = model.nn_module.eval(), []
    with torch.no_grad():
        for batch in predictions_of(model, path).loader():
            best += network(batch.input).softmax(1).max(1).indices.tolist()


def written(model: argus_core.Model, path: str, output: Path) -> None:
    """Write a table."""
    predictions_of(model, path).write(output, overwrite=True)


def write_rows(path: Path, count: int) -> None:
    """Write a table of random numbers."""
    numbers = np.random.default_rng(0).normal(size=(count, FEATURES))
    header = ",".join(f"f{number}" for number in range(FEATURES))
    np.savetxt(path, numbers, "%.4f", ",", header=header, comments="")


def write_images(folder: Path, count: int) -> None:
    """Write random images."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 255, (64, 64, 3), dtype="uint8")
        Image.fromarray(pixels).save(folder / f"{number:05}.jpg")


def seconds(function: Callable[..., None], *args: Any) -> float:
    """Return the CPU time of a call."""
    began = time.process_time()
    function(*args)
    return time.process_time() - began


def peak(sort: str, path: str) -> float:
    """Return the peak memory, in MiB, of a process that predicts on the samples of a path."""
    program = [sys.executable, __file__, sort, path]
    return float(subprocess.run(program, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print both comparisons."""
    torch.set_num_threads(1)
    print(
        "| samples | by hand, a second | to a table, a second | table over hand | MiB, a tenth | MiB, all |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        for count in (ROWS // 10, ROWS):
            write_rows(Path(f"{count}.csv"), count)
        for count in (IMAGES // 10, IMAGES):
            write_images(Path(str(count)), count)
        for sort, few, many in (
            ("rows", f"{ROWS // 10}.csv", f"{ROWS}.csv"),
            ("images", str(IMAGES // 10), str(IMAGES)),
        ):
            model, count = model_of(sort), ROWS if sort == "rows" else IMAGES
            loops, tables = [], []
            for _ in range(ROUNDS):
                loops.append(seconds(by_hand, model, many, Path()))
                tables.append(seconds(written, model, many, Path("out.csv")))
            shares = [loop / table for loop, table in zip(loops, tables, strict=True)]
            low, middle, high = (statistics.quantiles(shares, n=4)[each] for each in (0, 1, 2))
            print(
                f"| {sort} | {count / min(loops):,.0f} | {count / min(tables):,.0f} "
                f"| {middle:.2f} ({low:.2f}-{high:.2f}) | {peak(sort, few):.0f} | {peak(sort, many):.0f} |"
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        torch.set_num_threads(1)
        written(model_of(sys.argv[1]), sys.argv[2], Path("memory.csv"))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    else:
        main()
