"""Losses, kind ``loss``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from argus_core import ParamsError

__all__ = ["FocalLoss"]


class FocalLoss(nn.Module):
    """The focal loss of Lin et al. 2017 (arXiv:1708.02002): ``-w_t (1 - p_t) ** gamma log(p_t)``.

    With ``gamma=0`` it equals `torch.nn.CrossEntropyLoss`, also with ``weight``.

    Args:
        gamma: 0 or more; a larger value reduces the weight of samples that are already right.
        weight: (classes,), the weight of each class; all equal if None.
        reduction: 'mean' over the samples, weighted, or their 'sum'.
    """

    weight: Tensor | None

    def __init__(
        self,
        gamma: float = 2.0,
        weight: Tensor | Sequence[float] | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        if gamma < 0:
            raise ParamsError(f"gamma of loss focal is {gamma!r}; give a number of at least 0")
        if reduction not in ("mean", "sum"):
            raise ParamsError(f"reduction of loss focal is {reduction!r}; choose 'mean' or 'sum'")
        self.gamma = gamma
        self.reduction = reduction
        self.register_buffer("weight", None if weight is None else torch.as_tensor(weight).float())

    def divisor(self, target: Tensor) -> int | Tensor:
        """Return the divisor of the mean, so that the losses of parts of a batch add up."""
        return target.numel() if self.weight is None else self.weight[target].sum()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar, of logits (batch, classes, ...) and target (batch, ...), int64."""
        surprise = functional.cross_entropy(logits, target, reduction="none")  # -log(p_t)
        # Clamped, since at p_t = 1 the gradient of the power is infinite for gamma between 0 and 1.
        error = (-torch.expm1(-surprise)).clamp(min=torch.finfo(surprise.dtype).tiny)
        weight = torch.ones_like(surprise) if self.weight is None else self.weight[target]
        total = (weight * error**self.gamma * surprise).sum()
        return total / weight.sum() if self.reduction == "mean" else total
