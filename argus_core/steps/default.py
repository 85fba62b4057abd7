"""The update that every strategy changes a part of: one batch, one backward, one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from argus_core.batch import batch_size, deep_to
from argus_core.hooks import hookimpl

if TYPE_CHECKING:
    from argus_core.steps.update import Update

__all__ = ["Default"]


class Default:
    """Fills every slot that needs an owner; other strategies take single slots over."""

    @hookimpl
    def window_size(self) -> int:
        return 1

    @hookimpl(tryfirst=True)
    def prepare_batch(self, batch: Any, device: torch.device) -> Any:
        # Towards a CPU, non-blocking copies may be read before they are done.
        return deep_to(batch, device, non_blocking=device.type != "cpu")

    @hookimpl
    def split_window(self, window: Sequence[Any]) -> Sequence[Any]:
        return window

    @hookimpl
    def micro_batch_weight(self, micro_batch: Any) -> float:
        return batch_size(micro_batch)

    @hookimpl
    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    @hookimpl
    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Nothing was scaled."""

    @hookimpl
    def run_procedure(self, update: Update) -> bool:
        update.gradients()
        return update.apply()

    @hookimpl
    def apply_update(self, optimizer: torch.optim.Optimizer) -> bool:
        optimizer.step()
        return True
