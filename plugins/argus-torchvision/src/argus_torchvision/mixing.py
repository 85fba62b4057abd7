"""torchvision's MixUp and CutMix, kind ``collate``: batches of images that are mixed with their neighbours.

Targets become the shares of the classes, (batch, classes), which `CrossEntropyLoss` takes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import default_collate
from torchvision.transforms import v2

from argus_core import ParamsError

__all__ = ["cut_mix", "mix_up"]


def mix_up(num_classes: int, alpha: float = 1.0) -> _Mixed:
    """Return a function that makes a batch whose images are sums of two, and so are their targets.

    The share of the second image is drawn for each batch (Zhang et al., mixup, 2018).

    Args:
        num_classes: labels are from 0 to ``num_classes`` - 1.
        alpha: both parameters of the beta distribution of the share, above 0; smaller mixes less.
    """
    _check("MixUp", num_classes, alpha)
    return _Mixed(v2.MixUp(num_classes=num_classes, alpha=alpha))


def cut_mix(num_classes: int, alpha: float = 1.0) -> _Mixed:
    """Return a function that makes a batch whose images have a rectangle of another, and targets by area.

    The rectangle is drawn for each batch (Yun et al., CutMix, 2019).

    Args:
        num_classes: labels are from 0 to ``num_classes`` - 1.
        alpha: both parameters of the beta distribution of the area, above 0; smaller mixes less.
    """
    _check("CutMix", num_classes, alpha)
    return _Mixed(v2.CutMix(num_classes=num_classes, alpha=alpha))


class _Mixed:
    """Makes a batch of samples (image, label), and mixes it."""

    training_only = True

    def __init__(self, mix: Any) -> None:
        self._mix = mix

    def __call__(self, samples: list[Any]) -> list[Any]:
        return list(self._mix(*default_collate(samples)))


def _check(name: str, num_classes: int, alpha: float) -> None:
    if num_classes < 1:
        raise ParamsError(f"collate {name!r}: num_classes is {num_classes!r}; give 1 or more")
    if not alpha > 0:
        raise ParamsError(f"collate {name!r}: alpha is {alpha!r}; give a number above 0")


for _factory in (mix_up, cut_mix):
    _factory.exact_types = True  # type: ignore[attr-defined]
    _factory.checked_with = {  # type: ignore[attr-defined]
        "params": {"num_classes": 3},
        "samples": lambda: [(torch.full((3, 6, 6), number / 4), number % 3) for number in range(4)],
    }
