"""Events of one's own, raised from a training step, and attributes of the state that carry data."""

from __future__ import annotations

from pathlib import Path

import torch
from blobs import ConvNet, loaders, rounded, seeded, weights

from argus import Model
from argus.callbacks import Callback, on_event
from argus.engine import EventEnum, State
from argus.utils import AverageMeter, deep_detach, deep_to


class HalfwayEvents(EventEnum):
    BATCH_MOVED = "batch_moved"
    GRADIENTS_TAKEN = "gradients_taken"


class HalfwayModel(Model):
    nn_module = ConvNet
    optimizer = torch.optim.SGD
    loss = torch.nn.CrossEntropyLoss

    def train_step(self, batch, state: State) -> dict:
        self.train()
        self.optimizer.zero_grad()
        state.inputs, target = deep_to(batch, device=self.device, non_blocking=True)
        state.engine.raise_event(HalfwayEvents.BATCH_MOVED)
        prediction = self.nn_module(state.inputs)
        loss = self.loss(prediction, target)
        loss.backward()
        state.engine.raise_event(HalfwayEvents.GRADIENTS_TAKEN)
        self.optimizer.step()
        state.inputs = None
        prediction = self.prediction_transform(deep_detach(prediction))
        return {"prediction": prediction, "target": deep_detach(target), "loss": loss.item()}


class Watch(Callback):
    def __init__(self) -> None:
        self.brightness = AverageMeter()
        self.gradient = AverageMeter()
        self.seen = []

    def epoch_start(self, state: State) -> None:
        self.brightness.reset()
        self.gradient.reset()

    def batch_moved(self, state: State) -> None:
        self.brightness.update(state.inputs.mean().item())

    def gradients_taken(self, state: State) -> None:
        self.gradient.update(state.model.nn_module.classifier.weight.grad.abs().mean().item())

    def epoch_complete(self, state: State) -> None:
        self.seen.append([round(meter.average, 6) for meter in (self.brightness, self.gradient)])


def main(folder: Path) -> dict:
    seeded(1)
    model = HalfwayModel({"nn_module": {"n_classes": 3}, "optimizer": {"lr": 0.05}, "device": "cpu"})
    watch, calls = Watch(), []

    @on_event(HalfwayEvents.GRADIENTS_TAKEN)
    def count(state: State) -> None:
        calls.append((state.epoch, state.iteration, state.phase))

    train_loader, _ = loaders(shuffle=False)
    metrics = model.fit(train_loader, num_epochs=2, callbacks=[watch, count])
    return {"seen": watch.seen, "calls": calls, "metrics": rounded(metrics), "weights": weights(model)}
