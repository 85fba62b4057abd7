"""Networks, kind ``nn_module``."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["CNN"]


class CNN(nn.Module):
    """A small convolutional classifier of images of 8 x 8 pixels or more.

    Args:
        classes: number of logits.
        channels: number of channels of the images.
        width: channels of the first convolutions, a multiple of 4; the last one has twice as many.
        dropout: probability with which a feature is zeroed in training.
    """

    def __init__(self, classes: int = 10, channels: int = 1, width: int = 32, dropout: float = 0.1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _convolution(channels, width),
            _convolution(width, width),
            nn.MaxPool2d(2),
            _convolution(width, 2 * width),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * 2 * width, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, classes) for images (batch, channels, height, width), float."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    # Group rather than batch normalisation: the logits of a sample do not depend on its batch, so
    # accumulated and micro-batched updates stay equal to full-batch ones.
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.ReLU())
