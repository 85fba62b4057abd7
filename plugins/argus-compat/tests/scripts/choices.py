"""Dictionaries of networks, losses and optimizers; tuples and strings in params."""

from __future__ import annotations

from pathlib import Path

import torch
from blobs import ConvNet, Dense, loaders, rounded, seeded, weights

import argus
from argus.loss import pytorch_losses
from argus.optimizer import pytorch_optimizers


class FlexModel(argus.Model):
    nn_module = {"conv": ConvNet, "dense": Dense}


class NamedModel(argus.Model):
    nn_module = Dense
    optimizer = "SGD"
    loss = "CrossEntropyLoss"


class ChoiceModel(argus.Model):
    nn_module = {"conv": ConvNet, "dense": Dense}
    optimizer = {"slow": "SGD", "fast": torch.optim.AdamW}
    loss = {"plain": torch.nn.CrossEntropyLoss, "margin": "MultiMarginLoss"}
    prediction_transform = {"softmax": torch.nn.Softmax, "none": torch.nn.Identity}
    device = torch.device("cpu")


def make_network(depth: int = 1) -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Flatten(), *[torch.nn.Linear(64, 64)] * (depth - 1), torch.nn.Linear(64, 3)
    )


class FunctionModel(argus.Model):
    nn_module = make_network
    prediction_transform = lambda dim=-1: torch.nn.LogSoftmax(dim)  # noqa: E731


def main(folder: Path) -> dict:
    result = {}
    cases = {
        "flex": (
            FlexModel,
            {
                "nn_module": ("conv", {"n_classes": 3}),
                "optimizer": ("Adam", {"lr": 0.01}),
                "loss": "CrossEntropyLoss",
            },
        ),
        "flex_by_name": (
            FlexModel,
            {
                "nn_module": "dense",
                "optimizer": ("SGD", {"lr": 0.1}),
                "loss": ("NLLLoss", {"reduction": "sum"}),
            },
        ),
        "named": (NamedModel, {"optimizer": {"lr": 0.05}}),
        "choice": (
            ChoiceModel,
            {
                "nn_module": ("dense", {"n_classes": 3}),
                "optimizer": ("fast", {"lr": 0.01}),
                "loss": "margin",
                "prediction_transform": ("softmax", {"dim": 1}),
            },
        ),
        "function": (
            FunctionModel,
            {"nn_module": {"depth": 2}, "optimizer": ("RMSprop", {"lr": 0.001}), "loss": "CrossEntropyLoss"},
        ),
    }
    for case, (model_class, params) in cases.items():
        seeded(3)
        model = model_class(params)
        train_loader, val_loader = loaders()
        metrics = model.fit(train_loader, val_loader, num_epochs=2, metrics=["accuracy"])
        result[case] = {
            "metrics": rounded(metrics),
            "weights": weights(model),
            "parts": [type(part).__name__ for part in (model.nn_module, model.optimizer, model.loss)],
            "transform": type(model.prediction_transform).__name__,
            "params": repr(model.params),
            "ready": [model.train_ready(), model.predict_ready()],
        }
    without = FlexModel({"nn_module": "dense", "optimizer": None, "loss": None})
    result["without"] = [without.train_ready(), without.predict_ready(), repr(without.optimizer)]
    old = {"NLLLoss2d"}  # torch keeps it for old pickles only
    result["torch"] = [sorted(set(pytorch_losses) - old), sorted(pytorch_optimizers)]
    return result
