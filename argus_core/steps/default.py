"""The update that every strategy changes a part of: one batch, one backward, one step."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import torch

from argus_core.hooks import hookimpl
from argus_core.tensors.batch import PLAIN, TENSORS, deep_to

__all__ = ["Default"]

_is_cpu = attrgetter("is_cpu")


class Default:
    """Owns every slot that no other strategy takes.

    It makes an update from one loader batch, moved to the device, in one piece: one backward, one step of
    the optimizer. What it does between taking gradients and moving weights stands in `Update`.
    """

    @hookimpl
    def window_size(self) -> int:
        return 1

    @hookimpl(tryfirst=True)
    def prepare_batch(self, batch: Any, device: torch.device) -> Any:
        if device.type != "cpu":
            return deep_to(batch, device, non_blocking=True)
        # Towards a CPU a non-blocking copy may be read before it is done. Mostly there is nothing to move,
        # and to ask is cheaper than to move.
        is_there = type(batch) in PLAIN and {*map(type, batch)} == TENSORS and all(map(_is_cpu, batch))
        return batch if is_there else deep_to(batch, device)
