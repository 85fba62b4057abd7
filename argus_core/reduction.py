"""How a loss joins its samples, so that parts of a window add up to the whole."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from argus_core.batch import batch_size
from argus_core.device import widest_float

__all__ = ["mean_divisor", "weigh"]

# Their mean is over the weights of the targets' classes, and ignored targets have none.
_CLASS_WEIGHTED: tuple[type[nn.Module], ...] = tuple(
    getattr(nn, name)
    for name in ("CrossEntropyLoss", "NLLLoss", "LinearCrossEntropyLoss")
    if hasattr(nn, name)
)


def mean_divisor(loss: Any, batch: Any) -> float | Tensor:
    """Return what ``loss`` divides by when it takes its mean over ``batch``, a pair (input, target).

    That is the number of samples, unless the loss says otherwise: torch's cross-entropies divide by the sum
    of the class weights of the targets that are not ignored; any loss may have a method
    ``divisor(target)``. A tensor is 0-d and on the device, so that nothing waits for it.
    """
    target = batch[1] if isinstance(batch, tuple | list) and len(batch) == 2 else None
    if isinstance(target, Tensor):
        if callable(getattr(loss, "divisor", None)):
            divisor: float | Tensor = loss.divisor(target)
            return divisor
        if isinstance(loss, _CLASS_WEIGHTED) and not target.is_floating_point():
            return _class_weights(loss, target)
    return batch_size(batch)


def weigh(loss: Tensor, share: float | Tensor) -> Tensor:
    """Return a micro-batch's mean loss times its share of the window."""
    if isinstance(share, Tensor):
        # The mean over no targets is nan, which times a share of nothing would still be nan.
        loss = torch.where(share > 0, loss, torch.zeros_like(loss))
        share = share.to(loss.dtype)
    return loss * share


def _class_weights(loss: Any, target: Tensor) -> Tensor:
    ignored = loss.ignore_index
    kept = torch.ones_like(target, dtype=torch.bool) if ignored is None else target != ignored
    dtype = widest_float(target.device)
    if loss.weight is None:
        return kept.sum(dtype=dtype)
    weights: Tensor = loss.weight[target.clamp(min=0, max=len(loss.weight) - 1)]
    return (weights * kept).sum(dtype=dtype)
