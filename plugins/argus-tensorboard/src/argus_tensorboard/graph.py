"""The graph of a network, traced from one forward pass."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import Any

import torch
from torch import nn
from torch.utils.tensorboard.writer import SummaryWriter

from argus_core import deep_to
from argus_core.authors import Window

__all__ = ["add_graph"]


def add_graph(
    writer: SummaryWriter, module: nn.Module, batch: Any, device: torch.device, logger: logging.Logger
) -> None:
    """Write the graph of ``module``; if it cannot be traced, log the reason.

    The network runs in evaluation mode and without gradients. Random generators do not change.
    """
    batch = batch[0] if isinstance(batch, Window) else batch
    input = deep_to(batch[0] if isinstance(batch, list | tuple) else batch, device)
    modes = {each: each.training for each in module.modules()}
    module.eval()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of tracing
            with contextlib.redirect_stdout(io.StringIO()):  # torch prints the error that it raises
                writer.add_graph(module, input)
    except Exception as error:  # a network may do anything that cannot be traced
        reason = " ".join(str(error).split())[:300]
        logger.warning("tensorboard cannot draw the graph of %s: %s", type(module).__name__, reason)
    finally:
        for each, mode in modes.items():
            each.training = mode
