"""A convolutional network, and handwritten digits somewhere in a noisy picture."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

import argus_core


@argus_core.register("dataset", "hidden_digits")
def hidden_digits(classes: dict[str, list[int]], split: str = "train", limit: int | None = None, copies: int = 1) -> TensorDataset:
    """Return pictures (1, 16, 16) with the number of the class that has their digit, at most ``limit`` of each."""
    images, labels = argus_core.resolve("dataset", "digits").load()(split=split, test_fraction=0.3).tensors
    chosen = [torch.isin(labels, torch.tensor(each)).nonzero().flatten()[:limit] for each in classes.values()]
    targets = torch.cat([torch.full_like(indices, number) for number, indices in enumerate(chosen)]).repeat(copies)
    generator = torch.Generator().manual_seed(0)
    pictures = 0.4 * torch.rand(len(targets), 1, 16, 16, generator=generator)
    places = torch.randint(0, 9, (len(targets), 2), generator=generator).tolist()
    for picture, image, (top, left) in zip(pictures, images[torch.cat(chosen).repeat(copies)], places, strict=True):
        picture[:, top : top + 8, left : left + 8] += image
    dataset = TensorDataset(pictures, targets)
    dataset.classes = list(classes)
    return dataset


def block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]


@argus_core.register("nn_module", "small_cnn")
class SmallCNN(nn.Module):
    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        layers = [*block(1, width), *block(width, 2 * width), nn.MaxPool2d(2), *block(2 * width, 4 * width)]
        self.backbone = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten())
        self.head = nn.Linear(4 * width, classes)

    def forward(self, pictures):
        return self.head(self.backbone(pictures))
