"""Transforms of predictions, kind ``transform``."""

from __future__ import annotations

from torch import Tensor, nn

from argus_core import ParamsError

__all__ = ["TemperatureSoftmax"]


class TemperatureSoftmax(nn.Module):
    """Softmax of logits over a temperature, which calibrates (Guo et al. 2017, arXiv:1706.04599).

    Args:
        temperature: above 0; values above 1 make probabilities more even, below 1 more extreme.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ParamsError(
                f"temperature is {temperature!r}; give a number above 0 (1.0 does not change the logits)"
            )
        self.temperature = temperature

    def forward(self, logits: Tensor) -> Tensor:
        """Return probabilities of the shape of the logits, (batch, classes, ...)."""
        return (logits / self.temperature).softmax(dim=1)
