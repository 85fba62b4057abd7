"""An average of the weights saved in place of them, and a network wrapped for several processes."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import torch.distributed as dist
from blobs import ConvNet, loaders, names, rounded, seeded, weights
from torch.nn.parallel import DistributedDataParallel

import argus
from argus.callbacks import Callback, Checkpoint, MonitorCheckpoint, on_epoch_complete
from argus.engine import State


class DistributedModel(argus.Model):
    nn_module = ConvNet
    optimizer = torch.optim.SGD
    loss = torch.nn.CrossEntropyLoss


class Average(Callback):
    def __init__(self, decay: float) -> None:
        self.decay = decay

    def start(self, state: State) -> None:
        state.model.average = copy.deepcopy(state.model.get_nn_module())

    def iteration_complete(self, state: State) -> None:
        with torch.no_grad():
            ours = state.model.average.state_dict()
            for name, value in state.model.get_nn_module().state_dict().items():
                ours[name].lerp_(value, 1 - self.decay)


class AverageCheckpoint(Checkpoint):
    def save_model(self, state: State, file_path) -> None:
        model = state.model
        trained = model.nn_module
        model.nn_module = model.average
        model.save(file_path, optimizer_state=self.optimizer_state)
        model.nn_module = trained


class MonitorAverageCheckpoint(MonitorCheckpoint):
    def save_model(self, state: State, file_path) -> None:
        state.model.saves = [*getattr(state.model, "saves", []), round(state.metrics[self.monitor], 6)]
        super().save_model(state, file_path)


def main(folder: Path) -> dict:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
    try:
        seeded(4)
        model = DistributedModel({"nn_module": {"n_classes": 3}, "optimizer": {"lr": 0.1}})
        model.nn_module = DistributedDataParallel(model.nn_module)
        model.logger.disabled = True
        train_loader, val_loader = loaders()
        sampler_calls = []

        @on_epoch_complete
        def reseed(state: State) -> None:
            sampler_calls.append(state.epoch + 1)

        callbacks = [
            Average(0.5),
            AverageCheckpoint(folder / "average", max_saves=1, optimizer_state=True),
            MonitorAverageCheckpoint(
                folder / "best", monitor="val_loss", file_format="best-{epoch}.pth", max_saves=1
            ),
            reseed,
        ]
        metrics = model.fit(train_loader, val_loader, num_epochs=3, callbacks=callbacks)
        trained = weights(model)
    finally:
        dist.destroy_process_group()
    loaded = argus.load_model(folder / "average" / names(folder / "average")[0])
    return {
        "metrics": rounded(metrics),
        "saves": model.saves,
        "files": [names(folder / "average"), names(folder / "best")],
        "weights": trained,
        "average": weights(loaded),
        "epochs": sampler_calls,
        "wrapped": [type(model.nn_module).__name__, type(model.get_nn_module()).__name__],
    }
