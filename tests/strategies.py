"""Step strategies as a plugin would write them, and models that use them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from networks import Net
from torch import Tensor, nn

from argus_core import Model, hookimpl, register
from argus_core.steps.update import Update

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


class Sharpness:
    """Takes gradients twice: where the weights are, and a step of length ``rho`` up the slope from there.

    Sharpness-aware minimisation, Foret et al. 2021 (arXiv:2010.01412).
    """

    def __init__(self, rho: float = 0.1) -> None:
        self.rho = rho

    @hookimpl
    def run_procedure(self, update: Update) -> bool:
        update.gradients()
        steps = self.climb(update.parameters())
        update.gradients()
        for parameter, step in steps:
            parameter.data.sub_(step)
        return update.apply()

    def climb(self, parameters: Parameters) -> list[tuple[nn.Parameter, Tensor]]:
        gradients = [(parameter, parameter.grad) for parameter in parameters]
        norm = torch.stack([grad.norm() for _, grad in gradients if grad is not None]).norm()
        steps = [(parameter, grad * (self.rho / norm)) for parameter, grad in gradients if grad is not None]
        for parameter, step in steps:
            parameter.data.add_(step)
        return steps


class Closure:
    """Hands the optimizer a closure, as LBFGS asks for one."""

    @hookimpl
    def run_procedure(self, update: Update) -> bool:
        def closure() -> Tensor:
            loss = update.gradients()
            update.transform_gradients(update.parameters())
            return loss

        closure()
        if not update.allowed(update.parameters()):
            return False
        optimizer = update.model.optimizer
        assert optimizer is not None
        optimizer.step(closure)
        return True


class Average:
    """Averages the weights over updates, and puts the average in the network's place to evaluate."""

    def __init__(self, decay: float = 0.5) -> None:
        self.decay = decay
        self.average: nn.Module | None = None

    @hookimpl
    def set_up(self, model: Model) -> None:
        self.network = model.get_nn_module()
        if self.average is None:
            self.average = copy.deepcopy(self.network)

    @hookimpl
    def after_update(self, stepped: bool) -> None:
        if stepped:
            for average, parameter in self.pairs():
                average.data.lerp_(parameter.data, 1 - self.decay)

    @hookimpl
    @contextmanager
    def evaluation_context(self) -> Iterator[None]:
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def swap(self) -> None:
        for average, parameter in self.pairs():
            average.data, parameter.data = parameter.data, average.data

    def pairs(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        assert self.average is not None
        return list(zip(self.average.parameters(), self.network.parameters(), strict=True))


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
    register("step", "sharpness", Sharpness)
    register("step", "own_closure", Closure)
    register("step", "average", Average)
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
