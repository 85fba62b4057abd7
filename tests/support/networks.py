"""Small real networks and data that several test files train."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from argus_core import Model

Batch = tuple[Tensor, Tensor]

# Of a plain model of `Net`; needs the fixture ``net_registry``.
PARAMS: dict[str, Any] = {
    "nn_module": ("net", {"classes": 3}),
    "loss": "CrossEntropyLoss",
    "optimizer": ("SGD", {"lr": 0.1}),
    "device": "cpu",
}


class Net(nn.Module):
    """One hidden layer: (batch, features) float -> (batch, classes) logits."""

    def __init__(self, features: int = 4, classes: int = 3, hidden: int = 8) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, hidden)
        self.out = nn.Linear(hidden, classes)

    def forward(self, input: Tensor) -> Tensor:
        logits: Tensor = self.out(self.hidden(input).relu())
        return logits


def batches(
    sizes: tuple[int, ...] = (8, 8, 5), features: int = 4, classes: int = 3, seed: int = 0
) -> list[Batch]:
    """Return loader batches of these sizes, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(size, features, generator=generator),
            torch.randint(classes, (size,), generator=generator),
        )
        for size in sizes
    ]


def make_model(**params: Any) -> Model:
    """Return a plain model of `Net`, the same for the same params; needs the fixture ``net_registry``."""
    torch.manual_seed(0)
    return Model(PARAMS | params)


def same_weights(one: Model, other: Model) -> bool:
    """Return whether two models' networks are equal to the bit."""
    ours, theirs = one.get_nn_module().state_dict(), other.get_nn_module().state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
