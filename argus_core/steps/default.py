"""The update that every strategy changes a part of: one batch, one backward, one step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from argus_core.batch import deep_to
from argus_core.hooks import hookimpl

if TYPE_CHECKING:
    from argus_core.hooks import Closure

__all__ = ["Default", "step_optimizer"]


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
        if type(batch) not in (tuple, list):
            return deep_to(batch, device)
        for item in batch:
            if type(item) is not torch.Tensor or not item.is_cpu:
                return deep_to(batch, device)
        return batch


def step_optimizer(optimizer: Any, closure: Closure | None) -> None:
    """Move the weights; a closure only goes to an optimizer where there is one, since not all take it."""
    if closure is None:
        optimizer.step()
    else:
        optimizer.step(closure)
