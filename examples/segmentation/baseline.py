"""The Dice coefficients of a threshold on the smoothed picture, without a network: ``python baseline.py``."""

import torch
from parts import shapes
from torch import Tensor
from torch.nn.functional import avg_pool2d


def smoothed(pictures: Tensor) -> Tensor:
    """Return the means of 3 by 3 pixels (batch, height, width)."""
    return avg_pool2d(pictures, 3, stride=1, padding=1, count_include_pad=False)[:, 0]


def dice(found: Tensor, truth: Tensor) -> float:
    """Return twice the pixels in both, divided by the sum of the pixels in each."""
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


pictures, masks = shapes(samples=300, seed=0).tensors
thresholds = torch.linspace(0, 1, 101)
scores = [dice(smoothed(pictures) > each, masks > 0) for each in thresholds]
best = thresholds[scores.index(max(scores))]  # on the training pictures

pictures, masks = shapes(samples=100, seed=2).tensors
found = smoothed(pictures) > best
for name, truth in (("disc", masks == 1), ("square", masks == 2), ("both together", masks > 0)):
    print(f"{name:15}{dice(found, truth):.2f}")
