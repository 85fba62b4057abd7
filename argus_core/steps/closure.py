"""A closure for optimizers that evaluate loss and gradients several times in one step, such as LBFGS."""

from __future__ import annotations

from typing import ClassVar

import torch

from argus_core.abstract_model import AbstractModel
from argus_core.hooks import hookimpl
from argus_core.steps.hooks import AbstractUpdate

__all__ = ["Closure"]


class Closure:
    """The closure of ``optimizer.step``: it computes the update's gradients again and returns the loss.

    ``LBFGS`` calls it up to ``max_eval`` times in one step (Liu and Nocedal 1989,
    doi:10.1007/BF01589116); other optimizers of torch call it once. Each call clears the gradients, computes
    them from every micro-batch and transforms them. ``allow_update`` and the step output use the first
    gradients only.
    """

    conflicts: ClassVar[dict[str, str]] = {
        "grad_scaler": "torch.amp.GradScaler steps without a closure; give amp dtype='bfloat16'",
        "ignores_closure": "it moves the weights without the closure that the optimizer asks for",
    }

    def traits(self, model: AbstractModel) -> set[str]:
        """Return ``{"gives_closure"}``, which optimizers such as LBFGS require."""
        return {"gives_closure"}

    @hookimpl
    def run_procedure(self, update: AbstractUpdate) -> bool:
        losses = [self._take(update)]
        if not update.allowed(update.parameters()):
            return False

        def closure() -> torch.Tensor:
            # The optimizer begins by asking for the gradients that have just been computed.
            return losses.pop() if losses else self._take(update)

        return update.step(closure)

    def _take(self, update: AbstractUpdate) -> torch.Tensor:
        loss = update.gradients()
        update.transform_gradients(update.parameters())
        return loss
