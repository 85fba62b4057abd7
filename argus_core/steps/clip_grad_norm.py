"""Gradient clipping by total norm."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from argus_core.abstract_model import AbstractModel
from argus_core.errors import ParamsError
from argus_core.hooks import hookimpl
from argus_core.steps.numbers import is_number
from argus_core.steps.sparse import Entries, with_entries

__all__ = ["ClipGradNorm"]


class ClipGradNorm:
    """Gradient clipping by norm: scale the update's gradients to a total norm of at most ``max_norm``.

    g <- g * min(1, max_norm / ||g||), over all parameters together (Pascanu, Mikolov and Bengio 2013,
    arXiv:1211.5063). Clipping happens once per update, on unscaled gradients.

    Args:
        max_norm: the largest norm that passes unchanged.
        norm_type: the order of the norm; ``inf`` is the largest absolute value.
    """

    def __init__(self, max_norm: float, norm_type: float = 2.0) -> None:
        if not is_number(max_norm) or not max_norm > 0:
            raise ParamsError(f"step 'clip_grad_norm': max_norm is {max_norm!r}; give a number above 0")
        if not is_number(norm_type) or not norm_type > 0:
            raise ParamsError(
                f"step 'clip_grad_norm': norm_type is {norm_type!r}; give a number above 0, or inf"
            )
        self.max_norm = float(max_norm)
        self.norm_type = float(norm_type)
        self._is_dense = True
        self._engine: Any = None  # of shards

    def idle_slots(self, model: AbstractModel) -> tuple[str, ...]:
        """Return the slots that do nothing: only shards have to be set up."""
        return () if model.parallel.is_sharded else ("set_up",)

    @hookimpl
    def set_up(self, model: AbstractModel) -> None:
        self._engine = model.parallel

    @hookimpl
    def transform_gradients(self, parameters: tuple[nn.Parameter, ...]) -> None:
        if self._engine is not None:
            _clip_shards(self._engine, parameters, self.max_norm, self.norm_type)
            return
        chosen = parameters if self._is_dense else with_entries(parameters)
        try:
            torch.nn.utils.clip_grad_norm_(chosen, self.max_norm, self.norm_type)  # type: ignore[arg-type]
        except NotImplementedError:  # for a sparse gradient; no gradient has changed
            if not self._is_dense:
                raise
            self._is_dense = False
            self.transform_gradients(parameters)


def _clip_shards(
    engine: Any, parameters: tuple[nn.Parameter, ...], max_norm: float, norm_type: float
) -> None:
    """Scale the gradients of which this process has shards to a norm over all processes."""
    gradients = [gradient for each in parameters if (gradient := each.grad) is not None]
    norm = engine.total_norm(gradients, norm_type)
    own: list[Any] = [Entries(engine.local(each)) for each in gradients]
    torch.nn.utils.clip_grads_with_norm_(own, max_norm, norm)
