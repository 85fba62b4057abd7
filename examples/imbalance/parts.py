"""Digits of which some are rare, and a metric that counts every class equally."""

from typing import ClassVar

import torch
from torch.utils.data import TensorDataset

import argus_core


@argus_core.register("dataset", "long_tail")
def long_tail(rarest: int = 3) -> TensorDataset:
    """Return the training digits: all of digit 0, fewer of each next one, ``rarest`` images of digit 9."""
    data = argus_core.resolve("dataset", "digits").load()(split="train")
    images, labels = data.tensors
    most = int(torch.bincount(labels).min())
    keep = [round(most * (rarest / most) ** (digit / 9)) for digit in range(10)]
    chosen = torch.cat([torch.nonzero(labels == digit).flatten()[: keep[digit]] for digit in range(10)])
    tail = TensorDataset(images[chosen], labels[chosen])
    tail.classes = data.classes
    return tail


@argus_core.register("metric", "balanced_accuracy")
class BalancedAccuracy(argus_core.Metric):
    """The mean over the classes of the share of their targets that are predicted correctly."""

    name = "balanced_accuracy"
    better = "max"
    states: ClassVar = {"right": "sum", "targets": "sum"}

    def update(self, step_output):
        logits, target = step_output["prediction"], step_output["target"]
        right = target[logits.argmax(1) == target]
        self.right = self.right + torch.bincount(right, minlength=logits.shape[1])
        self.targets = self.targets + torch.bincount(target, minlength=logits.shape[1])

    def compute(self):
        return float((self.right / self.targets)[self.targets > 0].mean())
