"""Pictures of shapes with a class for each pixel, and a small U-Net."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

import argus_core


@argus_core.register("dataset", "shapes")
def shapes(samples: int, seed: int) -> TensorDataset:
    """Return noisy pictures (1, 32, 32), and masks (32, 32): 0, or 1 in a disc, or 2 in a square."""
    draw, grid = torch.Generator().manual_seed(seed), torch.arange(32).expand(32, 32)
    top, left, y, x = torch.randint(6, 26, (4, samples, 1, 1), generator=draw)
    radius, half = torch.randint(4, 8, (2, samples, 1, 1), generator=draw)
    masks = ((grid.T - top) ** 2 + (grid - left) ** 2 <= radius**2).long()
    masks[((grid.T - y).abs() < half) & ((grid - x).abs() < half)] = 2
    noise = 0.25 * torch.randn(samples, 1, 32, 32, generator=draw)
    dataset = TensorDataset((masks > 0).unsqueeze(1) + noise, masks)
    dataset.classes = ["background", "disc", "square"]
    return dataset


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Return a convolution that keeps the size."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


@argus_core.register("nn_module", "unet")
class UNet(nn.Module):
    """Logits (batch, classes, height, width) of pictures (batch, 1, height, width)."""

    def __init__(self, classes: int, width: int = 12) -> None:
        super().__init__()
        self.down = nn.ModuleList([block(1, width), block(width, 2 * width), block(2 * width, 4 * width)])
        self.up = nn.ModuleList([block(6 * width, 2 * width), block(3 * width, width)])
        self.head = nn.Conv2d(width, classes, 1)
        self.shrink, self.grow = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)

    def forward(self, pictures):
        fine = self.down[0](pictures)
        coarse = self.down[1](self.shrink(fine))
        coarse = self.up[0](torch.cat([self.grow(self.down[2](self.shrink(coarse))), coarse], 1))
        return self.head(self.up[1](torch.cat([self.grow(coarse), fine], 1)))
