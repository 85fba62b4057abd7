"""The settings in which combinations of step strategies train, and their tolerances."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from argus_core.model.model import Model
from argus_core.testing.by_hand import Batch

__all__ = ["LBFGS", "Network", "Probe", "Setting", "settings"]

Spec = tuple[str, dict[str, Any]]

_SIZES = (4, 3, 5, 1, 2)  # samples of the loader's batches: unequal, and an odd tail in windows of two
# In half precision the gradient of an update is rounded once for each of up to six micro-batches. Clipping an
# entry makes the step of the weights smaller, but not the rounding of the other entries.
_ROUNDINGS = 12
_EPSILON = {"bfloat16": 2.0**-8, "float16": 2.0**-11}


class Network(nn.Module):
    """A small network with layers that are hard for strategies: (batch, 2, 5, 5) -> (batch, 3) logits.

    It has no relu, since rounding errors grow at its kink.
    """

    def __init__(self, dtype: torch.dtype, normalised: bool = False, dropped: bool = False) -> None:
        super().__init__()
        self.filters = nn.Conv2d(2, 4, 3, dtype=dtype)
        self.norm = nn.BatchNorm2d(4, dtype=dtype) if normalised else nn.Identity()
        self.drop = _Dropout() if dropped else nn.Identity()
        self.out = nn.Linear(36, 3, dtype=dtype)

    def forward(self, input: Tensor) -> Tensor:
        logits: Tensor = self.out(self.drop(self.norm(self.filters(input)).tanh()).flatten(1))
        return logits


class _Dropout(nn.Module):
    """Drops the same entries in every dtype."""

    def forward(self, input: Tensor) -> Tensor:
        ones = torch.ones(input.shape, device=input.device)
        return input * nn.functional.dropout(ones, 0.3, self.training).to(input.dtype)


class Probe(Model, name="argus_core.testing.Probe"):
    """Trains `Network`."""

    nn_module = Network


@dataclass(frozen=True)
class Setting:
    """A setting of the training, and the allowed distance from the hand-written loop.

    Attributes:
        label: the name of the setting in messages.
        dtype: the dtype of weights and inputs.
        reference: the dtype in the hand-written loop.
        reduction: the reduction of the loss.
        optimizer: the spec of the optimizer.
        network: further parameters of `Network`.
        tolerance: the absolute tolerance of weights, losses and predictions; with ``half`` relative to the
            largest change of a weight.
        half: the dtype of autocast, or "".
        device: the device to train on.
        parallel: the engine, where the run has several processes.
    """

    label: str
    dtype: torch.dtype
    reference: torch.dtype
    reduction: str
    optimizer: Spec
    network: Mapping[str, bool] = field(default_factory=dict)
    tolerance: float = 1e-12
    half: str = ""

    device: str = "cpu"
    parallel: str = "auto"

    def model(self, steps: Sequence[Any], reference: bool = False) -> Model:
        """Return a model whose weights are the same in every setting."""
        dtype = self.reference if reference else self.dtype
        model = Probe(
            {
                "nn_module": {"dtype": dtype, **self.network},
                "loss": ("CrossEntropyLoss", {"reduction": self.reduction}),
                "optimizer": self.optimizer,
                "step": list(steps),
                "device": self.device,
                "parallel": self.parallel,
            }
        )
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.get_nn_module().parameters():  # the same values in every dtype
                value = 0.3 * torch.randn(parameter.shape, generator=generator)
                parameter.copy_(model.parallel.place(parameter, value.to(parameter.device, parameter.dtype)))
        return model

    def batches(self, dtype: torch.dtype) -> list[Batch]:
        """Return the loader's batches."""
        generator = torch.Generator().manual_seed(0)
        return [
            (
                torch.randn(size, 2, 5, 5, generator=generator).to(dtype),
                torch.randint(3, (size,), generator=generator),
            )
            for size in _SIZES
        ]

    def is_defined(self, model: Model) -> bool:
        """Return whether the result is defined; batch norm and dropout need the whole window at once."""
        whole = model.window_size() == 1 and model.step_members("split_window") == ["default"]
        return whole or not self.network


_SGD: Spec = ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01})
# AdamW divides a gradient by its size, so rounding errors alone would cause an update of full size.
_ADAMW: Spec = ("AdamW", {"lr": 0.05, "eps": 0.1})
_NORMALISED = {"normalised": True}
_DROPPED = {"dropped": True}
LBFGS: Spec = ("LBFGS", {"lr": 0.1, "max_iter": 2})


def settings(steps: Sequence[Spec]) -> Iterator[Setting]:
    """Yield the settings in which a combination of strategies is checked."""
    chosen = dict(steps)
    double, single = torch.float64, torch.float32
    if "amp" in chosen:
        half = chosen["amp"]["dtype"]
        rounding = _ROUNDINGS * _EPSILON[half]
        mean = Setting(f"{half} mean", single, single, "mean", _SGD, tolerance=rounding, half=half)
        yield mean
        if "compile" not in chosen:
            yield replace(mean, label=f"{half} sum", reduction="sum", optimizer=_ADAMW)
            yield replace(mean, label=f"{half} batch norm", network=_NORMALISED)
            yield replace(mean, label=f"{half} dropout", network=_DROPPED)
        return
    first = LBFGS if "closure" in chosen and "channels_last" not in chosen else _SGD
    yield Setting("float64 mean", double, double, "mean", first)
    if "compile" in chosen:
        return  # each setting would compile again, and the strategy does not affect the others
    yield Setting("float64 sum", double, double, "sum", _ADAMW)
    yield Setting("float32 mean", single, double, "mean", _SGD, tolerance=1e-6)
    yield Setting("float64 batch norm", double, double, "mean", first, _NORMALISED)
    yield Setting("float64 dropout", double, double, "mean", first, _DROPPED)
