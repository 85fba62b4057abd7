"""Step strategies as a plugin would write them, and models that use them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from networks import Net
from torch import Tensor, nn

from argus_core import Model, hookimpl, register

Parameters = tuple[nn.Parameter, ...]
Spec = tuple[str, dict[str, Any]]

PARAMS: dict[str, Any] = {
    "nn_module": "net",
    "loss": "CrossEntropyLoss",
    "optimizer": ("SGD", {"lr": 0.1, "momentum": 0.9}),
    "device": "cpu",
}
CUT: list[Spec] = [("accumulate", {"steps": 2}), ("microbatch", {"chunks": 3})]
CLIP: Spec = ("clip_grad_norm", {"max_norm": 0.3})


class Veto:
    """Refuses the updates whose number, counted from 0, is in ``updates``."""

    def __init__(self, updates: list[int], as_tensor: bool = False) -> None:
        self.updates = updates
        self.as_tensor = as_tensor
        self.asked = 0

    @hookimpl
    def allow_update(self, loss: Tensor) -> bool | Tensor:
        allowed = self.asked not in self.updates
        self.asked += 1
        return torch.tensor(allowed, device=loss.device) if self.as_tensor else allowed


class Record:
    """Writes down what happens in an update, in order."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    @hookimpl
    def set_up(self, model: Model) -> None:
        self.events.append(("set_up", model.device.type))

    @hookimpl(trylast=True)
    def prepare_batch(self, batch: Any) -> Any:
        self.events.append("prepare")
        return batch

    @hookimpl
    @contextmanager
    def sync_context(self, last: bool) -> Iterator[None]:
        self.events.append(("sync", last))
        yield
        self.events.append("synced")

    @hookimpl
    @contextmanager
    def forward_context(self) -> Iterator[None]:
        self.events.append("forward")
        yield
        self.events.append("loss")

    @hookimpl
    def scale_loss(self, loss: Tensor) -> Tensor:
        self.events.append("scale")
        return loss

    @hookimpl
    def backward(self, loss: Tensor) -> None:
        self.events.append("backward")
        loss.backward()  # type: ignore[no-untyped-call]

    @hookimpl
    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        self.events.append("unscale")

    @hookimpl
    def transform_gradients(self, parameters: Parameters) -> None:
        self.events.append("transform")

    @hookimpl
    def allow_update(self) -> bool:
        self.events.append("allow")
        return True

    @hookimpl
    def apply_update(self, optimizer: torch.optim.Optimizer) -> bool:
        self.events.append("apply")
        optimizer.step()
        return True

    @hookimpl
    def after_update(self, stepped: bool) -> None:
        self.events.append(("after", stepped))


class Smooth(nn.Sequential):
    """A network without a kink as relu has one, where a rounding error would be multiplied."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(nn.Linear(4, 8, dtype=dtype), nn.Tanh(), nn.Linear(8, 3, dtype=dtype))


def register_all() -> None:
    """Register the networks and strategies of the tests."""
    register("nn_module", "net", Net)
    register("nn_module", "smooth", Smooth)
    register("step", "veto", Veto)


def given(strategy: Any) -> str:
    """Register a strategy that the test keeps hold of; return its name."""
    name = f"own_{type(strategy).__name__.lower()}"
    register("step", name, lambda: strategy, override=True)
    return name


def build(*steps: Any, **params: Any) -> Model:
    """Return a model that is the same for the same arguments."""
    torch.manual_seed(0)
    return Model({**PARAMS, "step": list(steps), **params})


def weights(model: Model) -> Tensor:
    """Return a copy of all weights in one vector."""
    return nn.utils.parameters_to_vector(model.nn_module.parameters()).detach().clone()


def same_weights(left: Model, right: Model, tolerance: float = 0.0) -> bool:
    """Return whether no weight differs by more than ``tolerance``."""
    return torch.allclose(weights(left), weights(right), rtol=0, atol=tolerance)
