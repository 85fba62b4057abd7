"""Step strategies, kind ``step``."""

from __future__ import annotations

from torch import nn

from argus_core import hookimpl

__all__ = ["GradientCentralization"]


class GradientCentralization:
    """Gradient centralization of Yong et al. 2020 (arXiv:2004.01461).

    The mean over all dimensions except the first is subtracted from each gradient. Gradients of one
    dimension, such as those of biases, do not change.
    """

    # Before clipping, so that the norm of the applied gradient is clipped.
    runs_before: tuple[str, ...] = ("clip_grad_norm", "clip_grad_value")
    runs_after: tuple[str, ...] = ()

    @hookimpl
    def transform_gradients(self, parameters: tuple[nn.Parameter, ...]) -> None:
        """Centralize the gradients in place."""
        for parameter in parameters:
            gradient = parameter.grad
            if gradient is not None and gradient.ndim > 1:
                gradient -= gradient.mean(dim=tuple(range(1, gradient.ndim)), keepdim=True)
