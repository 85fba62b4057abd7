"""The small models in which components are checked; importing this module registers them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from argus_core.model.model import Model
from argus_core.registry.registry import register
from argus_core.tensors.listing import tensors_in

__all__ = [
    "Dense",
    "LossProbe",
    "Matrices",
    "NetworkProbe",
    "OptimizerProbe",
    "PredictionProbe",
    "Scale",
    "Sparse",
    "register_probes",
    "regression_batches",
]


class Scale(nn.Module):
    """Multiplies by one trained number: any shape -> the same shape."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, input: Any) -> Any:
        """Return a tensor, or nested tuples of tensors, multiplied."""
        if isinstance(input, tuple | list):
            return type(input)(map(self.forward, input))
        return input * self.factor.to(input.dtype) if torch.is_floating_point(input) else input


class Dense(nn.Module):
    """(batch, 6) -> (batch, 3), with weights of one, two and four dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv2d(1, 2, 2)
        self.norm = nn.GroupNorm(1, 2)
        self.out = nn.Linear(4, 3)

    def forward(self, input: Tensor) -> Tensor:
        """Return numbers (batch, 3)."""
        hidden: Tensor = self.norm(self.filters(input.reshape(-1, 1, 2, 3))).tanh()
        output: Tensor = self.out(hidden.flatten(1))
        return output


class Matrices(nn.Module):
    """(batch, 6) -> (batch, 3), with weights that are matrices, as some optimizers need."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(6, 5, bias=False)
        self.out = nn.Linear(5, 3, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Return numbers (batch, 3)."""
        output: Tensor = self.out(self.hidden(input).tanh())
        return output


class Sparse(nn.Module):
    """(batch, 6) -> (batch, 3), with a gradient that is a sparse tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 3, sparse=True)

    def forward(self, input: Tensor) -> Tensor:
        """Return numbers (batch, 3)."""
        rows: Tensor = self.table((input[:, 0] > 0).long() + 2 * (input[:, 1] > 0).long())
        return rows


class NetworkProbe(Model, name="argus_core.testing.NetworkProbe"):
    """Trains any network without a target: input -> mean square of the output."""

    def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
        """Return the output, no target, and the mean square of all floating point numbers in the output."""
        output = self.nn_module(batch)
        floating = [each.float() for each in tensors_in(output) if each.is_floating_point()]
        if not floating:
            raise AssertionError(
                f"its output, a {type(output).__name__}, contains no tensor of floating point numbers; "
                "return tensors, in tuples, lists or dicts"
            )
        return output, None, torch.stack([each.square().mean() for each in floating]).mean()


class LossProbe(Model, name="argus_core.testing.LossProbe"):
    """Trains `Scale` with any loss of a prediction and further arguments."""

    nn_module: Any = Scale
    warned_unregistered = True  # its files are loaded with this class

    def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
        """Return prediction, target and loss of ``(prediction, target, ...)``."""
        prediction, *others = batch
        scaled = self.nn_module(prediction)
        loss: Tensor = self.loss(scaled, *others)
        return scaled, others[0] if others else None, loss

    def batch_size(self, batch: Any) -> int:
        """Return 1, since a batch of any form counts as one sample."""
        return 1


class PredictionProbe(Model, name="argus_core.testing.PredictionProbe"):
    """Predicts its input."""

    nn_module: Any = Scale
    loss: Any = nn.MSELoss
    warned_unregistered = True

    def forward_loss(self, batch: Any) -> tuple[Any, Any, Tensor]:
        """Return ``(prediction, target)`` unchanged, and a loss that is equal for all samples."""
        prediction, target = batch
        return self.nn_module(prediction), target, self.nn_module.factor * 1.0

    def loss_weight(self, batch: Any) -> float:
        """Return 1, since the loss is equal for all samples."""
        return 1.0


class OptimizerProbe(Model, name="argus_core.testing.OptimizerProbe"):
    """Trains one of three small networks on a regression."""

    nn_module = {"dense": Dense, "matrices": Matrices, "sparse": Sparse}  # noqa: RUF012
    loss: Any = nn.MSELoss
    warned_unregistered = True


def register_probes() -> None:
    """Register the models in the current registry, which may be the isolated one of a test."""
    for probe in (NetworkProbe, LossProbe, PredictionProbe, OptimizerProbe):
        register("model", f"argus_core.testing.{probe.__name__}", probe)


def regression_batches(count: int = 3, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    """Return batches (size, 6) with targets (size, 3) that a small network can learn."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(size, 6, generator=generator) for _ in range(count)]
    return [(each, torch.stack([each[:, 0], each[:, 1] - each[:, 2], 0 * each[:, 3]], 1)) for each in inputs]
