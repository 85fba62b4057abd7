"""Images and filters with their channels last in memory, where convolutions are often faster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from argus_core.batch import deep_map
from argus_core.hooks import hookimpl

if TYPE_CHECKING:
    from argus_core.model import Model

__all__ = ["ChannelsLast"]

_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


class ChannelsLast:
    """Lays out the network's 4-D and 5-D weights, and such tensors of each batch, with channels last.

    The values stay the same and so does the update, but for rounding: (N, C, H, W) is stored as (N, H, W, C),
    the layout in which tensor cores convolve
    (https://docs.pytorch.org/tutorials/intermediate/memory_format_tutorial.html).
    """

    conflicts: ClassVar[dict[str, str]] = {
        "optimizer:LBFGS": "torch's LBFGS takes only gradients that are contiguous in memory"
    }

    @hookimpl
    def set_up(self, model: Model) -> None:
        for parameter in model.get_nn_module().parameters():
            parameter.data = _channels_last(parameter.data)

    @hookimpl
    def prepare_batch(self, batch: Any, device: torch.device) -> Any:
        if type(batch) is not tuple and type(batch) is not list:
            return deep_map(batch, _channels_last)
        changed = []  # the usual batch; this runs in every update
        for item in batch:
            if type(item) is not Tensor:
                item = deep_map(item, _channels_last)
            elif item.ndim in _FORMATS:
                item = item.contiguous(memory_format=_FORMATS[item.ndim])
            changed.append(item)
        return changed if type(batch) is list else tuple(changed)


def _channels_last(tensor: torch.Tensor) -> torch.Tensor:
    memory_format = _FORMATS.get(tensor.ndim)
    return tensor if memory_format is None else tensor.contiguous(memory_format=memory_format)
