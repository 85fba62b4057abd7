"""A convolutional network, and handwritten digits somewhere in a noisy picture."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

import argus_core


@argus_core.register("dataset", "hidden_digits")
def hidden_digits(
    classes: dict[str, list[int]], split: str = "train", limit: int | None = None, copies: int = 1
) -> TensorDataset:
    """Return pictures (1, 16, 16), at most ``limit`` of each class, and the number of the class."""
    images, labels = argus_core.resolve("dataset", "digits").load()(split=split, test_fraction=0.3).tensors
    chosen = [torch.isin(labels, torch.tensor(each)).nonzero()[:limit, 0] for each in classes.values()]
    targets = torch.cat([torch.full_like(each, number) for number, each in enumerate(chosen)]).repeat(copies)
    generator = torch.Generator().manual_seed(0)
    pictures = 0.4 * torch.rand(len(targets), 1, 16, 16, generator=generator)
    places = torch.randint(0, 9, (len(targets), 2), generator=generator).tolist()
    for picture, index, (top, left) in zip(pictures, torch.cat(chosen).repeat(copies), places, strict=True):
        picture[:, top : top + 8, left : left + 8] += images[index]
    dataset = TensorDataset(pictures, targets)
    dataset.classes = list(classes)
    return dataset


def block(inputs: int, outputs: int) -> list[nn.Module]:
    """Return the layers of a convolution that keeps the size."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]


@argus_core.register("nn_module", "small_cnn")
class SmallCNN(nn.Sequential):
    """Logits (batch, classes) of pictures (batch, 1, height, width): a backbone, and a head."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers = [*block(1, 16), *block(16, 32), nn.MaxPool2d(2), *block(32, 64)]
        self.backbone = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten())
        self.head = nn.Linear(64, classes)
