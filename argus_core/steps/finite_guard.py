"""A check before each update that loss and gradients are finite."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from argus_core.abstract_model import AbstractModel
from argus_core.errors import ArgusError, ParamsError
from argus_core.hooks import hookimpl
from argus_core.steps.numbers import is_count
from argus_core.steps.sparse import entries
from argus_core.storage.stored import COUNT, check_fits

__all__ = ["FiniteGuard"]

_POLICIES = ("raise", "skip")
_ADVICE = "lower the learning rate, clip gradients, or look at the batch"


class FiniteGuard:
    """A check before each update: where loss or gradients hold nan or inf, the weights do not change.

    With several processes all decide alike: one process with nan or inf is enough. Under ``amp`` with float16
    infinite gradients are part of the loss scaler's search for a scale, so only the loss is checked. The
    check waits for the device once per update.

    Args:
        policy: ``"raise"`` raises an error before the weights change; ``"skip"`` skips the update and
            reports it (``update_skipped``).
        max_consecutive: how many updates in a row may be skipped, for any reason; one more raises an error.
    """

    def __init__(self, policy: str = "raise", max_consecutive: int = 20) -> None:
        if policy not in _POLICIES:
            raise ParamsError(f"step 'finite_guard': policy is {policy!r}; give 'raise' or 'skip'")
        if not is_count(max_consecutive):
            raise ParamsError(
                f"step 'finite_guard': max_consecutive is {max_consecutive!r}; "
                "give an integer of at least 1 (updates)"
            )
        self.policy = policy
        self.max_consecutive = max_consecutive
        self._skipped = 0
        self._looks_at_gradients = True
        self._local: Callable[[Tensor], Tensor] | None = None  # of an engine of shards
        self._finite: Tensor | None = None  # whether the gradients were, before other strategies
        self._loss: Tensor | None = None  # of the update's vote
        self._vote: Tensor | None = None

    @hookimpl
    def set_up(self, model: AbstractModel) -> None:
        self._looks_at_gradients = "grad_scaler" not in model.step_traits()
        self._local = model.parallel.local if model.parallel.is_sharded else None

    @hookimpl(tryfirst=True)
    def transform_gradients(self, parameters: tuple[nn.Parameter, ...]) -> None:
        # After clipping, an infinite gradient can no longer be detected.
        self._finite = torch.isfinite(self._largest(parameters)) if self._looks_at_gradients else None

    @hookimpl
    def allow_update(self, loss: Tensor, parameters: tuple[nn.Parameter, ...]) -> Tensor:
        vote = torch.isfinite(loss)
        self._loss = loss
        self._vote = vote if self._finite is None else vote & self._finite
        return self._vote  # which holds the verdict of all processes afterwards

    @hookimpl(tryfirst=True)
    def after_update(self, model: AbstractModel, stepped: bool) -> None:
        loss, vote, self._loss, self._vote = self._loss, self._vote, None, None
        if not stepped and self.policy == "raise" and loss is not None and not vote:
            raise ArgusError(
                f"the update is not finite: {_what(loss)}; the weights are as they were before it; "
                f"{_ADVICE}, or choose finite_guard with policy='skip'"
            )
        self._skipped = 0 if stepped else self._skipped + 1
        if self._skipped > self.max_consecutive:
            raise ArgusError(
                f"{self._skipped} updates in a row were skipped, and finite_guard allows "
                f"{self.max_consecutive}; {_ADVICE}, or raise max_consecutive"
            )

    def _largest(self, parameters: tuple[nn.Parameter, ...]) -> Tensor:
        gradients = [gradient for parameter in parameters if (gradient := parameter.grad) is not None]
        if self._local is not None:  # a shard may be empty; all processes vote together afterwards
            gradients = [own for each in gradients if (own := self._local(each)).numel()]
        return _largest(gradients)

    @hookimpl
    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self._skipped}

    @hookimpl
    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_fits(state, {"skipped": COUNT})
        self._skipped = state["skipped"]


def _largest(gradients: list[Tensor]) -> Tensor:
    """Return the largest absolute value of all gradients, which unlike a sum of squares cannot overflow."""
    try:
        return nn.utils.get_total_norm(gradients, math.inf)
    except RuntimeError:  # for a sparse gradient, or an empty one
        dense = map(entries, gradients)
        return nn.utils.get_total_norm([gradient for gradient in dense if gradient.numel()], math.inf)


def _what(loss: Tensor) -> str:
    value = loss.item()
    return "a gradient holds nan or inf" if math.isfinite(value) else f"the loss is {value}"
