"""Clipping of each gradient's entries."""

from __future__ import annotations

from torch import nn

from argus_core.errors import ParamsError
from argus_core.hooks import hookimpl

__all__ = ["ClipGradValue"]


class ClipGradValue:
    """Limits every entry of the window's gradients to between ``-clip_value`` and ``clip_value``.

    g_i <- min(max(g_i, -c), c), once for each update, on unscaled gradients (Mikolov 2012, "Statistical
    Language Models Based on Neural Networks", section 3.2.2). Beside ``clip_grad_norm`` it comes first, so
    that both limits hold.

    Args:
        clip_value: the largest absolute value that passes unchanged.
    """

    runs_before = ("clip_grad_norm",)

    def __init__(self, clip_value: float) -> None:
        if not clip_value > 0:
            raise ParamsError(f"clip_grad_value takes clip_value > 0, not {clip_value!r}")
        self.clip_value = float(clip_value)

    @hookimpl
    def transform_gradients(self, parameters: tuple[nn.Parameter, ...]) -> None:
        nn.utils.clip_grad_value_(parameters, self.clip_value)
