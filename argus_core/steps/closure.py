"""A closure for optimizers that take gradients themselves, several times in one step."""

from __future__ import annotations

from typing import ClassVar

import torch

from argus_core.abstract_model import AbstractModel
from argus_core.hooks import hookimpl
from argus_core.steps.hooks import AbstractUpdate

__all__ = ["Closure"]


class Closure:
    """Hands the optimizer a closure that takes fresh gradients of the whole window and returns its loss.

    ``LBFGS`` asks for it up to ``max_eval`` times in one step (Liu and Nocedal 1989,
    doi:10.1007/BF01589116); other optimizers of torch ask once. Each time gradients are cleared, taken from
    every micro-batch and transformed. Whether the update may happen is asked once, of the first gradients,
    and the step output is that of the first ones too.
    """

    conflicts: ClassVar[dict[str, str]] = {
        "grad_scaler": "torch.amp.GradScaler steps without a closure; choose amp with dtype='bfloat16'",
        "ignores_closure": "it moves the weights without the closure that the optimizer asks for",
    }

    def traits(self, model: AbstractModel) -> set[str]:
        """Return ``{"gives_closure"}``: what optimizers like LBFGS need."""
        return {"gives_closure"}

    @hookimpl
    def run_procedure(self, update: AbstractUpdate) -> bool:
        losses = [self._take(update)]
        if not update.allowed(update.parameters()):
            return False

        def closure() -> torch.Tensor:
            # The optimizer begins by asking for what has just been taken.
            return losses.pop() if losses else self._take(update)

        return update.step(closure)

    def _take(self, update: AbstractUpdate) -> torch.Tensor:
        loss = update.gradients()
        update.transform_gradients(update.parameters())
        return loss
