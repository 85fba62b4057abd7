"""A network of several outputs, a loss of one's own, callbacks for validation, and a run that is stopped."""

from __future__ import annotations

from pathlib import Path

from blobs import loaders, names, rounded, seeded, weights
from torch import nn

import argus
from argus.callbacks import Callback, Checkpoint
from argus.engine import State


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Linear(64, 8)
        self.up = nn.Linear(8, 64)

    def forward(self, images):
        code = self.down(images.flatten(1)).tanh()
        return self.up(code), code


class ReconstructionLoss(nn.Module):
    def __init__(self, weight: float = 0.1) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, prediction, target):
        reconstruction, code = prediction
        return nn.functional.mse_loss(reconstruction, target.flatten(1)) + self.weight * code.abs().mean()


class AutoencoderModel(argus.Model):
    nn_module = Autoencoder
    loss = ReconstructionLoss


class Errors(Callback):
    def __init__(self) -> None:
        self.last = []

    def iteration_complete(self, state: State) -> None:
        reconstruction, code = state.step_output["prediction"]
        self.last.append([len(reconstruction), round(code.abs().mean().item(), 6)])


class StopWhenGood(Callback):
    def iteration_complete(self, state: State) -> None:
        if state.epoch == 3 and state.iteration == 1:
            state.stopped = True


def pairs(loader):
    return [(images, images) for images, _ in loader]


def main(folder: Path) -> dict:
    seeded(10)
    model = AutoencoderModel({"optimizer": ("Adam", {"lr": 0.01}), "loss": {"weight": 0.2}})
    train_loader, val_loader = (pairs(loader) for loader in loaders(shuffle=False))
    errors = Errors()
    metrics = model.fit(
        train_loader,
        val_loader=val_loader,
        num_epochs=9,
        callbacks=[Checkpoint(dir_path=folder, period=3), StopWhenGood()],
        val_callbacks=[errors],
    )
    return {
        "metrics": rounded(metrics),
        "errors": errors.last,
        "files": names(folder),
        "weights": weights(model)[:50],
    }
