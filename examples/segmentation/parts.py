"""Pictures of shapes with a class for each pixel, and a small U-Net."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

import argus_core


@argus_core.register("dataset", "shapes")
def shapes(samples: int, seed: int) -> TensorDataset:
    """Return noisy pictures (1, 32, 32) of a disc and a square, and masks (32, 32) of 0, 1 for disc, 2 for square."""
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randint(*range_, (samples, 1, 1), generator=generator) for range_ in [(6, 26)] * 4 + [(4, 8)] * 2]
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    masks = ((y - draw[0]) ** 2 + (x - draw[1]) ** 2 <= draw[4] ** 2).long()
    masks[((y - draw[2]).abs() < draw[5]) & ((x - draw[3]).abs() < draw[5])] = 2
    pictures = (masks > 0) + 0.25 * torch.randn(samples, 32, 32, generator=generator)
    dataset = TensorDataset(pictures.unsqueeze(1).float(), masks)
    dataset.classes = ["background", "disc", "square"]
    return dataset


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


@argus_core.register("nn_module", "unet")
class UNet(nn.Module):
    def __init__(self, classes: int = 3, width: int = 16) -> None:
        super().__init__()
        self.down = nn.ModuleList([block(1, width), block(width, 2 * width), block(2 * width, 4 * width)])
        self.up = nn.ModuleList([block(6 * width, 2 * width), block(3 * width, width)])
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, pictures):
        first = self.down[0](pictures)
        second = self.down[1](nn.functional.max_pool2d(first, 2))
        third = self.down[2](nn.functional.max_pool2d(second, 2))
        second = self.up[0](torch.cat([nn.functional.interpolate(third, scale_factor=2), second], 1))
        return self.head(self.up[1](torch.cat([nn.functional.interpolate(second, scale_factor=2), first], 1)))
