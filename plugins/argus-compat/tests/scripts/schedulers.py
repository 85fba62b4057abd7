"""Every scheduler by its class, one of one's own in sequence, and two runs with the same callbacks."""

from __future__ import annotations

from pathlib import Path

import torch
from blobs import Dense, loaders, seeded
from torch.optim.lr_scheduler import ConstantLR, ExponentialLR, SequentialLR

import argus
from argus import callbacks
from argus.callbacks.lr_schedulers import LRScheduler


class ScheduledModel(argus.Model):
    nn_module = Dense
    optimizer = torch.optim.SGD
    loss = torch.nn.CrossEntropyLoss


def in_sequence(optimizer):
    warm_up = ConstantLR(optimizer, factor=0.1, total_iters=2)
    decay = ExponentialLR(optimizer, gamma=0.9)
    return SequentialLR(optimizer, schedulers=[warm_up, decay], milestones=[2])


SCHEDULERS = {
    "lambda": lambda: callbacks.LambdaLR(lambda epoch: 0.9**epoch),
    "multiplicative": lambda: callbacks.MultiplicativeLR(lambda epoch: 0.5),
    "step": lambda: callbacks.StepLR(1, gamma=0.5),
    "multi_step": lambda: callbacks.MultiStepLR([1, 2]),
    "exponential": lambda: callbacks.ExponentialLR(0.5),
    "each_iteration": lambda: callbacks.ExponentialLR(0.9, step_on_iteration=True),
    "cosine": lambda: callbacks.CosineAnnealingLR(3, eta_min=0.01),
    "warm_restarts": lambda: callbacks.CosineAnnealingWarmRestarts(2),
    "plateau": lambda: callbacks.ReduceLROnPlateau("train_loss", patience=0, threshold=10.0, factor=0.5),
    "cyclic": lambda: callbacks.CyclicLR(0.01, 0.1, step_size_up=3, cycle_momentum=False),
    "one_cycle": lambda: callbacks.OneCycleLR(0.1, total_steps=40, cycle_momentum=False),
    "sequence": lambda: LRScheduler(in_sequence),
}


def main(folder: Path) -> dict:
    result = {}
    for name, make in SCHEDULERS.items():
        seeded(6)
        model = ScheduledModel({"optimizer": {"lr": 0.1}})
        model.logger.disabled = True
        rates = []

        @callbacks.on_iteration_complete
        def note(state, rates=rates):
            rates.append(round(state.model.get_lr(), 8))

        train_loader, _ = loaders()
        both = [make(), note]
        model.fit(train_loader, num_epochs=3, callbacks=both)
        rates.append("again")
        if name != "one_cycle":  # ends with the first run
            model.fit(train_loader, num_epochs=2, callbacks=both)
        result[name] = rates
    return result
