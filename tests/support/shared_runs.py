"""Small runs that several processes make as one does, and what they leave behind as plain numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import argus_core
from argus_core import Model
from argus_core.registry.registry import isolated_registry

__all__ = ["PARTS", "largest_difference", "made", "train", "trained"]

IGNORED = -100


class Attention(nn.Module):
    """A transformer block on tokens: (batch, length) integers -> (batch, classes, length) logits."""

    def __init__(self, tokens: int = 11, width: int = 8, classes: int = 5) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.block = nn.TransformerEncoderLayer(width, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, input: Tensor) -> Tensor:
        logits: Tensor = self.head(self.block(self.embedding(input))).transpose(1, 2)
        return logits


class Branched(nn.Module):
    """A network with a part that no batch uses, and one that only batches with a large first input use."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 4)
        self.rare = nn.Linear(6, 4)
        self.unused = nn.Linear(6, 4)

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.first(input)
        return output


class Convolutional(nn.Module):
    """(batch, 64) pixels -> (batch, 10) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))

    def forward(self, input: Tensor) -> Tensor:
        logits: Tensor = self.layers(input.view(-1, 1, 8, 8))
        return logits


class Scaled(nn.Module):
    """A loss with a parameter of its own, which learns."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(prediction * self.scale, target) + self.scale.square()

    def divisor(self, target: Tensor) -> Tensor:
        return (target != IGNORED).sum()


class Focused(nn.CrossEntropyLoss):
    """A loss of the user's own derived from torch's, whose divisor is observed."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return super().forward(input * 1.5, target)


def dense() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 4))


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 12), nn.Dropout(0.3), nn.BatchNorm1d(12), nn.Tanh(), nn.Linear(12, 4))


def regression() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))


PARTS: dict[tuple[str, str], Any] = {
    ("nn_module", "dense"): dense,
    ("nn_module", "regression"): regression,
    ("nn_module", "dropping"): dropping,
    ("nn_module", "attention"): Attention,
    ("nn_module", "branched"): Branched,
    ("nn_module", "convolutional"): Convolutional,
    ("loss", "scaled"): Scaled,
    ("loss", "focused"): Focused,
}


def data_for(network: str, samples: int) -> TensorDataset:
    """Return samples for a network; some targets of classes are ignored."""
    generator = torch.Generator().manual_seed(samples)
    if network in ("attention", "stack"):
        input = torch.randint(11, (samples, 6), generator=generator)
        target = torch.randint(5, (samples, 6), generator=generator)
        target[torch.rand(samples, 6, generator=generator) < 0.4] = IGNORED
        target[: samples // 5] = IGNORED
        return TensorDataset(input, target)
    if network == "regression":
        rows = torch.randn(samples, 6, generator=generator)
        return TensorDataset(rows, torch.randn(samples, 3, generator=generator))
    if network == "convolutional":
        pixels = torch.rand(samples, 64, generator=generator)
        return TensorDataset(pixels, torch.randint(10, (samples,), generator=generator))
    rows = torch.randn(samples, 6, generator=generator)
    target = torch.randint(4, (samples,), generator=generator)
    target[::5] = IGNORED
    return TensorDataset(rows, target)


def made(params: dict[str, Any]) -> Model:
    """Return a model of the parts above; call it inside `isolated_registry`."""
    for (kind, name), factory in PARTS.items():
        argus_core.register(kind, name)(factory)
    torch.manual_seed(0)
    usual = {
        "nn_module": "dense",
        "loss": "CrossEntropyLoss",
        "optimizer": ("SGD", {"lr": 0.1, "momentum": 0.9}),
    }
    return Model({**usual, "device": "cpu", **params})


def train(
    params: dict[str, Any],
    fit: dict[str, Any] | None = None,
    samples: int = 53,
    batch_size: int = 7,
    workers: int = 0,
) -> dict[str, Any]:
    """Train and return the weights (as lists), the metrics and the counts of the run."""
    with isolated_registry(builtins=True):
        model = made(params)
        return trained(model, fit or {}, samples, batch_size, workers)


def trained(
    model: Model, fit: dict[str, Any], samples: int, batch_size: int, workers: int = 0
) -> dict[str, Any]:
    part = model.parts["nn_module"]
    assert part is not None
    network = part.name
    options = {
        "num_epochs": 2,
        "seed": 3,
        "metrics": ["accuracy"] if network != "regression" else ["mae"],
        **fit,
    }
    seen: dict[str, Any] = {}

    @argus_core.on_complete
    def note(state: Any) -> None:
        seen.update(updates=state.global_step, skipped=state.updates_skipped, epoch=state.epoch)

    options["callbacks"] = [*options.get("callbacks", ()), note]
    sets = options.pop("sets", ("val",))
    val: Any = {
        name: DataLoader(data_for(network, 17 + number), batch_size) for number, name in enumerate(sets)
    }
    val = val["val"] if sets == ("val",) else val or None
    loader = DataLoader(data_for(network, samples), batch_size, shuffle=True, num_workers=workers)
    metrics = model.fit(loader, val, **options)
    tensors = [*model.nn_module.state_dict().values(), *getattr(model.loss, "parameters", list)()]
    weights = [in_full(tensor).double().tolist() for tensor in tensors]
    return {"weights": weights, "metrics": metrics, **seen}


def in_full(tensor: Tensor) -> Tensor:
    """Return a tensor of which each process may hold a shard."""
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full.detach()


def largest_difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the largest difference of two runs' weights and metrics; infinite if they made other updates."""
    if one["updates"] != other["updates"] or one["metrics"].keys() != other["metrics"].keys():
        return float("inf")
    weights = [
        float((torch.tensor(ours) - torch.tensor(theirs)).abs().max())
        for ours, theirs in zip(one["weights"], other["weights"], strict=True)
    ]
    metrics = [abs(one["metrics"][name] - other["metrics"][name]) for name in one["metrics"]]
    return max([*weights, *metrics])
