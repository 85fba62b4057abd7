"""Configurations to start from, kind ``config``. This module imports no torch: they are read without."""

from __future__ import annotations

from typing import Any

__all__ = ["digits"]


def digits(epochs: int = 10, lr: float = 2e-3) -> dict[str, Any]:
    """Return how to train a small convolutional network on the digits; network and step are of argus-example.

    Args:
        epochs: how often to go through the training data.
        lr: the highest learning rate; it falls along half a cosine.
    """
    return {
        "model": {
            "nn_module": ("argus-example/cnn", {"classes": 10}),
            "loss": "argus-torch/CrossEntropyLoss",
            "optimizer": ("argus-torch/AdamW", {"lr": lr}),
            "prediction_transform": ("argus-torch/Softmax", {"dim": 1}),
            "step": [
                "argus-example/gradient_centralization",
                ("argus-torch/accumulate", {"steps": 2}),
                ("argus-torch/clip_grad_norm", {"max_norm": 1.0}),
            ],
        },
        "data": {
            "train": ("argus-sklearn/digits", {"split": "train"}),
            "val": ("argus-sklearn/digits", {"split": "val"}),
            "batch_size": 32,
        },
        "fit": {
            "num_epochs": epochs,
            "metrics": ["argus-torch/accuracy"],
            "monitor": "val_accuracy",
            "lr_scheduler": ("argus-torch/CosineAnnealingLR", {"T_max": epochs}),
            "seed": 0,
            "num_threads": 1,
        },
    }
