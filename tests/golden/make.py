"""What the golden checkpoints hold, and how they were made.

``python tests/golden/make.py`` writes those of the present schema that are missing. What is there is never
written again: people have such files.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn

import argus_core
from argus_core import Model
from argus_core.storage import write
from argus_core.storage.manifest import SCHEMA

FOLDER = Path(__file__).parent

DTYPES = """
float64 float32 float16 bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu
int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool complex64 complex128
""".split()


def bits(name: str, *shape: int) -> Tensor:
    """Return a tensor of a dtype whose bytes count on, NaNs among its numbers."""
    dtype = getattr(torch, name)
    numbers = torch.arange(math.prod(shape) * dtype.itemsize) % (2 if name == "bool" else 251)
    return numbers.to(torch.uint8).view(dtype).reshape(shape)


def tensors() -> dict[str, Tensor]:
    """Return tensors of every dtype and layout."""
    every = {f"dtypes/{name}": bits(name, 3, 5) for name in DTYPES}
    weight = torch.arange(12.0).reshape(3, 4)
    image = torch.arange(120.0).reshape(2, 3, 4, 5)
    return every | {
        "layouts/scalar": torch.tensor(1.5),
        "layouts/empty": torch.empty(0, 3),
        "layouts/turned": weight.t(),
        "layouts/channels_last": image.to(memory_format=torch.channels_last),
        "layouts/channels_last_3d": image[None].to(memory_format=torch.channels_last_3d),
        "tied/one": weight,
        "tied/other": weight,
        "names/größe 1": torch.ones(1),
    }


def plain() -> dict[str, Any]:
    """Return plain data of every kind."""
    return {
        "atoms": [None, True, 1, -(2**63), 2**64, 10**30, 0.1, math.inf, -math.inf, "größe\n", b"\0\xff"],
        "containers": {1: (1, (2.5, [])), (None, "a"): {}, "$tuple": ["b"]},
        "torch": [torch.float8_e5m2, torch.device("cuda", 1)],
        "numpy": [numpy.float32(0.1), numpy.int8(-3), numpy.arange(6).reshape(2, 3)],
        "tensor": torch.arange(3),
        "path": Path("runs/a"),
    }


class Golden(nn.Module):
    """Tied weights, a buffer, a convolution in channels_last, and a parameter without dimensions."""

    def __init__(self, size: int = 4) -> None:
        super().__init__()
        self.first = nn.Linear(size, size)
        self.second = nn.Linear(size, size)
        self.second.weight = self.first.weight
        self.conv = nn.Conv2d(3, 2, 3).to(memory_format=torch.channels_last)
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))


def model() -> Model:
    """Return a model with the state of Adam; needs `Golden` as nn_module ``golden``."""
    built = Model(
        {
            "nn_module": ("golden", {"size": 4}),
            "loss": ("CrossEntropyLoss", {"weight": torch.tensor([0.5, 1.0, 2.0, 4.0])}),
            "optimizer": ("Adam", {"lr": 0.01, "betas": (0.8, 0.9)}),
            "prediction_transform": ("Softmax", {"dim": 1}),
            "step": ["amp", ("accumulate", {"steps": 2})],
            "device": "cpu",
        }
    )
    with torch.no_grad():
        for index, value in enumerate(built.nn_module.state_dict().values()):
            value.copy_(torch.arange(value.numel()).reshape(value.shape) + index)
    state = built.optimizer.state_dict()
    for number, parameter in enumerate(built.nn_module.parameters()):
        average = torch.arange(parameter.numel()).reshape(parameter.shape) / 8 + number
        state["state"][number] = {"step": torch.tensor(7.0), "exp_avg": average, "exp_avg_sq": average**2}
    built.optimizer.load_state_dict(state)
    return built


def main() -> None:
    """Write the files of the present schema."""
    stored, saved = (FOLDER / f"schema-{SCHEMA}-{name}.safetensors" for name in ("tensors", "model"))
    if not stored.exists():
        write(stored, tensors(), {"note": "golden"})
    if not saved.exists():
        with argus_core.isolated_registry(builtins=True) as registry:
            registry.register("nn_module", "golden", Golden)
            model().save(saved, optimizer_state=True, run=plain())


if __name__ == "__main__":
    main()
