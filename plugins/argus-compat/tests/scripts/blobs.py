"""Data, networks and what is compared: for the scripts beside this file, on either library."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def seeded(seed: int = 0) -> None:
    torch.manual_seed(seed)


def loaders(shuffle: bool = True, samples: int = 90, batch_size: int = 16) -> tuple[DataLoader, DataLoader]:
    """Return loaders of 8x8 images in three classes; the last batch of each is smaller."""
    generator = torch.Generator().manual_seed(7)
    targets = torch.arange(samples) % 3
    images = torch.randn(samples, 1, 8, 8, generator=generator) + targets.view(-1, 1, 1, 1).float()
    train = TensorDataset(images[:60], targets[:60])
    val = TensorDataset(images[60:], targets[60:])
    return DataLoader(train, batch_size, shuffle=shuffle), DataLoader(val, batch_size)


class ConvNet(nn.Module):
    def __init__(self, n_classes: int, width: int = 4, p_dropout: float = 0.0) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
        self.dropout = nn.Dropout(p_dropout)
        self.classifier = nn.Linear(4 * width, n_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.dropout(self.features(images).flatten(1)))


class Dense(nn.Module):
    def __init__(self, n_classes: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(64, n_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.flatten(1))


def weights(model: object) -> list[float]:
    """Return all weights of a model's network, as numbers that JSON has."""
    state = model.get_nn_module().state_dict()
    return [round(value, 6) for tensor in state.values() for value in tensor.double().flatten().tolist()]


def rounded(metrics: dict[str, float]) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in metrics.items()}


def names(folder: object) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
