"""Small real networks and data that several test files train."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]


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
