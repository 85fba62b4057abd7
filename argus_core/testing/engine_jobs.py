"""The part of each process of a group in a check of an engine, and its result as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from argus_core.callbacks import on_iteration_complete
from argus_core.callbacks.state import State
from argus_core.errors import ConflictError
from argus_core.model.loading import load_model
from argus_core.model.model import Model
from argus_core.testing.probe import Dense, OptimizerProbe, regression_batches
from argus_core.testing.process_pool import join_group

__all__ = [
    "EngineResult",
    "built",
    "failed",
    "largest_difference",
    "resumed",
    "saved",
    "train_in_group",
    "trained",
    "uneven_batches",
]

_SIZES = (8, 5, 1, 7)  # samples: an odd number, and fewer than the processes
_EPOCHS = 2

Spec = Any


@dataclass(frozen=True)
class EngineResult:
    """A model after a job, as plain data.

    Attributes:
        keeps_network: whether ``model.nn_module`` is of the class that was built.
        weights: the values of the network's state dict; ``None`` for a tensor that this process does not get.
        metrics: of the run.
        refusal: the reason why the model was refused.
    """

    keeps_network: bool = True
    weights: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    refusal: str = ""


def built(spec: Spec) -> EngineResult:
    """Build a model; each process draws other initial values."""
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    torch.manual_seed(1 + 10 * rank)
    return _result(_model(spec, []), {})


def trained(spec: Spec, steps: Sequence[Any]) -> EngineResult:
    """Train a model with step strategies."""
    torch.manual_seed(1)
    try:
        model = _model(spec, steps)
    except ConflictError as error:
        return EngineResult(refusal=str(error))
    return _result(model, _fitted(model))


def saved(spec: Spec, file: Path) -> EngineResult:
    """Train and save a model."""
    torch.manual_seed(1)
    model = _model(spec, [])
    metrics = _fitted(model)
    model.save(file, optimizer_state=True)
    return _result(model, metrics)


def resumed(spec: Spec, file: Path) -> EngineResult:
    """Load a model, and train it further."""
    model = load_model(file, device="cpu", parallel=spec)
    return _result(model, _fitted(model))


def failed(spec: Spec) -> None:
    """Train a model until an exception in the last process."""

    @on_iteration_complete
    def fail(state: State) -> None:
        if state.iteration == 1 and distributed.get_rank() == distributed.get_world_size() - 1:
            raise ZeroDivisionError("on purpose")

    torch.manual_seed(1)
    _fitted(_model(spec, []), callbacks=[fail])


def uneven_batches() -> list[tuple[Tensor, Tensor]]:
    """Return batches of unequal sizes."""
    return [
        (input[:size], target[:size])
        for size, (input, target) in zip(_SIZES, regression_batches(len(_SIZES)), strict=True)
    ]


def largest_difference(one: EngineResult, other: EngineResult) -> float:
    """Return the largest difference of weights and metrics, where both have them."""
    both = [(value, other.weights[name]) for name, value in one.weights.items()]
    both += [(value, other.metrics[name]) for name, value in one.metrics.items()]
    pairs = [pair for pair in both if None not in pair]
    distances = [float((torch.tensor(ours) - torch.tensor(theirs)).abs().max()) for ours, theirs in pairs]
    return max(distances, default=0.0)


def train_in_group(rank: int, count: int, folder: str, spec: Spec) -> tuple[Any, Any]:
    """Train as one process of a group that is made for it; return weights and metrics."""
    join_group(rank, count, folder, 30)
    result = trained(spec, [])
    return result.weights, result.metrics


def _model(spec: Spec, steps: Sequence[Any]) -> Model:
    return OptimizerProbe(
        {
            "nn_module": "dense",
            "optimizer": ("SGD", {"lr": 0.05, "momentum": 0.9}),
            "step": list(steps),
            "device": "cpu",
            "parallel": spec,
        }
    )


def _fitted(model: Model, **options: Any) -> dict[str, float]:
    batches = uneven_batches()
    metrics: dict[str, float] = model.fit(
        batches, batches, num_epochs=_EPOCHS, seed=0, metrics=["mse"], **options
    )
    return metrics


def _result(model: Model, metrics: Mapping[str, float]) -> EngineResult:
    network = model.get_nn_module()
    whole = {name: model.parallel.whole(tensor.detach()) for name, tensor in network.state_dict().items()}
    weights = {name: None if tensor is None else tensor.tolist() for name, tensor in whole.items()}
    return EngineResult(isinstance(network, Dense), weights, dict(metrics))
