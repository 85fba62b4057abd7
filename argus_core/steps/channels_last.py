"""The channels-last memory format for images and filters, in which convolutions are often faster."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from argus_core.abstract_model import AbstractModel
from argus_core.hooks import hookimpl
from argus_core.tensors.batch import deep_map, is_flat

__all__ = ["ChannelsLast"]

_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


class ChannelsLast:
    """The channels-last memory format for 4-D and 5-D weights of the network and tensors of each batch.

    Values do not change, and the update changes by rounding only. (N, C, H, W) is stored as (N, H, W, C), the
    layout in which tensor cores convolve
    (https://docs.pytorch.org/tutorials/intermediate/memory_format_tutorial.html).
    """

    conflicts: ClassVar[dict[str, str]] = {
        "optimizer:LBFGS": "torch's LBFGS takes only gradients that are contiguous in memory"
    }

    @hookimpl
    def set_up(self, model: AbstractModel) -> None:
        for parameter in model.get_nn_module().parameters():
            parameter.data = _channels_last(parameter.data)

    @hookimpl
    def prepare_batch(self, batch: Any, device: torch.device) -> Any:
        if not is_flat(batch):
            return deep_map(batch, _channels_last)
        changed = [
            tensor.contiguous(memory_format=_FORMATS[tensor.ndim]) if tensor.ndim in _FORMATS else tensor
            for tensor in batch
        ]
        return type(batch)(changed)


def _channels_last(tensor: torch.Tensor) -> torch.Tensor:
    memory_format = _FORMATS.get(tensor.ndim)
    return tensor if memory_format is None else tensor.contiguous(memory_format=memory_format)
