"""Step strategies, kind ``step``."""

from __future__ import annotations

from torch import nn

from argus_core import hookimpl

__all__ = ["GradientCentralization"]


class GradientCentralization:
    """Gradient centralization of Yong et al. 2020 (arXiv:2004.01461).

    Each weight's gradient loses its mean over all dimensions but the first; those of one dimension,
    such as biases', stay as they are.
    """

    # A norm is clipped as it will be applied: after centralization has made it smaller.
    runs_before: tuple[str, ...] = ("clip_grad_norm", "clip_grad_value")
    runs_after: tuple[str, ...] = ()

    @hookimpl
    def transform_gradients(self, parameters: tuple[nn.Parameter, ...]) -> None:
        """Centralize the gradients in place."""
        for parameter in parameters:
            gradient = parameter.grad
            if gradient is not None and gradient.ndim > 1:
                gradient -= gradient.mean(dim=tuple(range(1, gradient.ndim)), keepdim=True)
