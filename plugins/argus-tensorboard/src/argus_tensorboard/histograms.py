"""The distributions of weights and gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.tensorboard.writer import SummaryWriter

__all__ = ["add_histograms"]


def add_histograms(writer: SummaryWriter, module: nn.Module, step: int) -> None:
    """Write a histogram of each parameter and of its gradient; waits for the device.

    A histogram has only finite values. The share of other values is written as a scalar.
    """
    for name, parameter in module.named_parameters():
        _add(writer, f"weights/{name}", parameter, step)
        if parameter.grad is not None:
            _add(writer, f"gradients/{name}", parameter.grad, step)


def _add(writer: SummaryWriter, tag: str, tensor: Tensor, step: int) -> None:
    if hasattr(tensor, "to_local") or tensor.is_meta:  # a shard of a distributed tensor
        return
    values = tensor.detach()
    values = values.coalesce().values() if values.is_sparse else values
    values = (values.abs() if values.is_complex() else values).float().flatten().cpu()
    finite = values[torch.isfinite(values)]
    if len(finite) < len(values):
        writer.add_scalar(f"not_finite/{tag}", 1 - len(finite) / len(values), step)
    if len(finite):
        writer.add_histogram(tag, finite, step)
