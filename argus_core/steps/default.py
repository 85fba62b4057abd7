"""The default step strategy: one loader batch, one backward pass, one optimizer step."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import torch

from argus_core.hooks import hookimpl
from argus_core.tensors.batch import PLAIN, TENSORS, deep_to

__all__ = ["Default"]

_is_cpu = attrgetter("is_cpu")


class Default:
    """The default step strategy: it owns every slot that no other strategy owns.

    It makes an update from one loader batch, moved to the device: one backward pass and one optimizer step.
    `Update` holds the rest of the default update.
    """

    @hookimpl
    def window_size(self) -> int:
        return 1

    @hookimpl(tryfirst=True)
    def prepare_batch(self, batch: Any, device: torch.device) -> Any:
        if device.type != "cpu":
            return deep_to(batch, device, non_blocking=True)
        # A non-blocking copy to a CPU may be read before it is complete. Mostly no tensor has to move, and
        # checking is cheaper than moving.
        is_there = type(batch) in PLAIN and {*map(type, batch)} == TENSORS and all(map(_is_cpu, batch))
        return batch if is_there else deep_to(batch, device)
