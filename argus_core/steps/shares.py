"""The shares of micro-batches in their window: they make losses and gradients add up to the window's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress, repeat
from operator import mul, truediv
from typing import Any

import torch
from torch import Tensor

from argus_core.errors import ParamsError
from argus_core.tensors.batch import deep_map

__all__ = ["check_loss", "joined", "shares", "silence", "weigh"]

_SHOWN = 4  # names of losses


def shares(weights: Sequence[float | Tensor]) -> list[float | Tensor]:
    """Return the share of each micro-batch in its window: its weight over the sum of all weights."""
    total = sum(weights)
    if isinstance(total, Tensor):
        total = total + (total == 0)  # reading it would wait for the device
    elif not total:  # every target is ignored
        return [0.0] * len(weights)
    return [*map(truediv, weights, repeat(total))]


def weigh(losses: Tensor, shares: Tensor) -> Tensor:
    """Return mean losses of micro-batches times their shares of the window."""
    # The mean over no targets is nan, which times a share of nothing would still be nan.
    return torch.where(shares > 0, losses, torch.zeros_like(losses)) * shares


def silence(prediction: Any, share: float | Tensor) -> None:
    """Stop the gradient of a prediction whose share of the window is 0.

    Backward through a mean over no targets divides by 0, so that even an initial gradient of 0 becomes nan.
    """

    def only_of_a_share(gradient: Tensor | None) -> Tensor | None:
        # None is the gradient of an output that the loss does not use. torch.where does not take distributed
        # or ragged tensors beside ordinary ones.
        if type(gradient) is not Tensor or gradient.is_nested or gradient.layout is not torch.strided:
            return gradient
        there = torch.as_tensor(share, device=gradient.device) != 0
        return torch.where(there, gradient, torch.zeros_like(gradient))

    def watch(tensor: Tensor) -> Tensor:
        if tensor.grad_fn is not None:  # a parameter's hook would stay
            tensor.register_hook(only_of_a_share)  # type: ignore[no-untyped-call]
        return tensor

    deep_map(prediction, watch)


def joined(losses: Sequence[Tensor | float], shares: Sequence[Any]) -> Tensor:
    """Return the loss of a window from those of its micro-batches.

    Args:
        losses: of the micro-batches; the first is a 0-d tensor, detached; on a CPU the others are numbers.
        shares: of each in the window; ``None`` where the losses are summed.
    """
    first = losses[0]
    assert isinstance(first, Tensor)
    if first.is_complex():  # backward takes a complex share as the initial gradient, but has no default one
        raise ParamsError(
            f"the loss is complex ({first.dtype}), and only a real number can be minimised; return its "
            "real part or its abs() from forward_loss"
        )
    if first.is_cpu:  # where reading a tensor does not wait
        numbers: Iterable[float] = [first.item(), *map(float, losses[1:])]
        if shares[0] is not None:  # skips the mean over no targets, which is nan
            numbers = map(mul, map(float, compress(shares, shares)), compress(numbers, shares))
        return first.new_full((), sum(numbers))
    stacked = torch.stack([each for each in losses if isinstance(each, Tensor)])
    if shares[0] is None:
        return stacked.sum()
    own = [share.to(first) if isinstance(share, Tensor) else first.new_full((), share) for share in shares]
    return weigh(stacked, torch.stack(own)).sum()


def check_loss(loss: Any, on_graph: bool) -> None:
    """Raise unless a loss is one number and, with ``on_graph``, requires grad."""
    if isinstance(loss, Mapping):
        names = ", ".join(map(str, [*loss][:_SHOWN])) + ", ..." * (len(loss) > _SHOWN)
        raise ParamsError(
            f"the loss is a {type(loss).__name__} of {names or 'nothing'}, and only one number can be "
            "minimised; return the sum of its values, such as sum(losses.values())"
        )
    if not isinstance(loss, Tensor):
        raise ParamsError(f"the loss is a {type(loss).__name__}; return a 0-d tensor from forward_loss")
    if loss.ndim != 0:
        raise ParamsError(
            f"the loss has shape {tuple(loss.shape)}, and only one number can be minimised; "
            "choose reduction='mean' or 'sum' for the loss, or return its mean() or sum()"
        )
    if on_graph and not loss.requires_grad:
        raise ParamsError(
            f"the loss ({loss.dtype}) depends on no parameter that requires grad; return it from "
            "forward_loss without detach(), item() or no_grad()"
        )
