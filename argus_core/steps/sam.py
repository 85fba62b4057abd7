"""Sharpness-aware minimisation (SAM)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from argus_core.errors import ParamsError
from argus_core.hooks import hookimpl
from argus_core.steps.hooks import AbstractUpdate
from argus_core.steps.numbers import is_number
from argus_core.steps.parameters import module_parts
from argus_core.steps.sparse import entries

__all__ = ["SAM"]

_TINY = 1e-12  # avoids a division by 0 where all gradients are 0


class SAM:
    """Sharpness-aware minimisation: a second pass, a step of ``rho`` up the slope, gives the gradients.

    w <- w - lr * g(w + rho * g(w) / ||g(w)||): the second gradients move the original weights (Foret et al.
    2021, arXiv:2010.01412). Both passes cover the whole window. Buffers, such as the running statistics of
    batch normalisation, and the step output come from the first pass. An update takes twice the time, and
    memory for one more copy of the weights.

    Args:
        rho: the length of the step up, as the norm over all parameters together.
        adaptive: whether to measure that length relative to each weight's size, so that it does not depend on
            the scale of a network's weights (ASAM, Kwon et al. 2021, arXiv:2102.11600); ``rho`` is then
            larger, about 0.5 to 2.
    """

    def __init__(self, rho: float = 0.05, adaptive: bool = False) -> None:
        if not is_number(rho) or not 0 < rho < math.inf:
            raise ParamsError(f"step 'sam': rho is {rho!r}; give a number above 0")
        if type(adaptive) is not bool:
            raise ParamsError(f"step 'sam': adaptive is {adaptive!r}; give True or False")
        self.rho = float(rho)
        self.adaptive = adaptive

    @hookimpl
    def run_procedure(self, update: AbstractUpdate) -> bool:
        update.gradients()
        engine = update.model.parallel
        parameters = [parameter for parameter in update.parameters() if parameter.grad is not None]
        modules = module_parts(update.model)
        kept = [*parameters, *(buffer for _, module in modules for buffer in module.buffers())]
        kept = [*map(engine.local, kept)]
        values = [tensor.detach().clone() for tensor in kept]
        try:
            self._climb(parameters, engine)
            update.gradients()
        finally:  # copies: adding and subtracting would leave a rounding error in every update
            with torch.no_grad():
                for tensor, value in zip(kept, values, strict=True):
                    tensor.copy_(value)
        return update.apply()

    @torch.no_grad()
    def _climb(self, parameters: Sequence[nn.Parameter], engine: Any) -> None:
        sizes = [parameter.abs() if self.adaptive else None for parameter in parameters]
        slopes = [
            _times(_gradient(parameter), size) for parameter, size in zip(parameters, sizes, strict=True)
        ]
        norm = engine.total_norm if engine.is_sharded else nn.utils.get_total_norm
        length = self.rho / (norm([entries(slope) for slope in slopes], 2.0) + _TINY)
        for whole, slope, size in zip(parameters, slopes, sizes, strict=True):
            climb, parameter = engine.local(_times(slope, size)), engine.local(whole)
            length = length.to(parameter.dtype)
            if climb.is_sparse:
                parameter.add_(climb * length)
            else:
                parameter.addcmul_(climb, length)


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _times(slope: Tensor, size: Tensor | None) -> Tensor:
    return slope if size is None else slope * size
