"""Training loops written by hand in plain torch: what step strategies must equal in any composition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from networks import Batch
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]


def joined(window: Sequence[Batch]) -> Batch:
    """Return loader batches as one."""
    inputs, targets = zip(*window, strict=True)
    return torch.cat(inputs), torch.cat(targets)


def windows(batches: Sequence[Batch], size: int) -> list[Batch]:
    """Return an epoch's batches joined ``size`` at a time; the last has what is left."""
    return [joined(batches[start : start + size]) for start in range(0, len(batches), size)]


def train(
    network: nn.Module,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    max_norm: float | None = None,
    forward: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> list[float]:
    """Make one update from each batch, whole; return the losses."""
    losses = []
    for input, target in batches:
        optimizer.zero_grad()
        with forward():
            value = loss(network(input), target)
        value.backward()  # type: ignore[no-untyped-call]
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), max_norm)
        optimizer.step()
        losses.append(value.item())
    return losses
