"""Batch normalisation by the statistics of all processes: torch's `SyncBatchNorm`."""

from __future__ import annotations

import torch
from torch import nn

from argus_core.errors import BuildError

__all__ = ["synchronise"]

_KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_DEVICES = ("cuda", "hpu", "xpu")  # those for which torch has it, beside one that a package adds


def synchronise(network: nn.Module, device: torch.device, engine: str) -> None:
    """Let a network's batch norm take the statistics of all processes in training.

    The modules stay the objects that user code knows, with their names, parameters and hooks; only their
    class changes. Modules of a class of the user's own, derived from torch's, stay as they are.

    Args:
        network: before it is split or wrapped.
        device: of the model.
        engine: its name, for the message.

    Raises:
        BuildError: torch cannot do that on the device.
    """
    if device.type not in (*_DEVICES, torch._C._get_privateuse1_backend_name()):
        raise BuildError(
            f"parallel {engine!r}: sync_batchnorm is True, and the device is {str(device)!r}, for which "
            "torch has no SyncBatchNorm; train on a GPU, or leave sync_batchnorm out"
        )
    for module in network.modules():
        if type(module) in _KINDS:
            module.__class__ = nn.SyncBatchNorm
            vars(module)["process_group"] = None  # all processes
