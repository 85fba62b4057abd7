"""Clipping of the gradients' total norm."""

from __future__ import annotations

import torch
from torch import nn

from argus_core.errors import ParamsError
from argus_core.hooks import hookimpl

__all__ = ["ClipGradNorm"]


class ClipGradNorm:
    """Scales the window's gradients down to a total norm of at most ``max_norm``.

    g <- g * min(1, max_norm / ||g||), over all parameters together (Pascanu, Mikolov and Bengio 2013,
    arXiv:1211.5063), once for each update, on unscaled gradients.

    Args:
        max_norm: the largest norm that passes unchanged.
        norm_type: the order of the norm; ``inf`` is the largest absolute value.
    """

    def __init__(self, max_norm: float, norm_type: float = 2.0) -> None:
        if not max_norm > 0:
            raise ParamsError(f"clip_grad_norm takes max_norm > 0, not {max_norm!r}")
        if not norm_type > 0:
            raise ParamsError(f"clip_grad_norm takes norm_type > 0 or inf, not {norm_type!r}")
        self.max_norm = float(max_norm)
        self.norm_type = float(norm_type)

    @hookimpl
    def transform_gradients(self, parameters: tuple[nn.Parameter, ...]) -> None:
        torch.nn.utils.clip_grad_norm_(parameters, self.max_norm, self.norm_type)
