"""Templates of configurations, kind ``config``; this module does not import torch."""

from __future__ import annotations

from typing import Any

__all__ = ["digits"]


def digits(epochs: int = 10, lr: float = 2e-3) -> dict[str, Any]:
    """A small convolutional network for the digits; the network and a step strategy are from argus-example.

    Args:
        epochs: the number of passes over the training data.
        lr: the highest learning rate, which decays along half a cosine.
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
