"""A hand-written training loop, the reference for step strategies.

All loader batches of an update (its window) are one batch, with one forward, one backward and one step.
`Loop` has no micro-batches, weights, scaling or compiled hooks. The other effects of the built-in strategies
are written here a second time, without their code. Other strategies take part with their own hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from argus_core.hooks import hookimpl
from argus_core.model.model import Model
from argus_core.steps.composition import Composed
from argus_core.tensors.batch import deep_to

__all__ = ["BY_HAND", "Batch", "Loop"]

Batch = tuple[Tensor, Tensor]
Parameters = tuple[nn.Parameter, ...]


class Loop:
    """A hand-written training loop over whole windows, with the methods that a procedure may call.

    Args:
        model: the model with the nn_module, loss and optimizer; its own step strategies are not used.
        composed: the hand-written strategies; only the hooks that such a loop has are called.
    """

    def __init__(self, model: Model, composed: Composed) -> None:
        self.model = model
        self._slots = partial(composed.implementations, model=model)
        self.losses: list[float] = []
        self.predictions: list[Tensor] = []
        self.micro_batches: Sequence[Batch] = ()
        self._is_first = True
        for set_up in self._slots("set_up"):
            set_up(model)

    def fit(self, batches: Sequence[Batch], num_epochs: int) -> None:
        """Train on the batches, with the batches of each update joined to one."""
        (size,) = (window_size() for window_size in self._slots("window_size"))
        self.model.train()
        for _ in range(num_epochs):
            for start in range(0, len(batches), size):
                self.micro_batches = [self._joined(batches[start : start + size])]
                self._update()

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Enter the contexts that strategies open around an evaluation."""
        with ExitStack() as stack:
            for context in self._slots("evaluation_context"):
                stack.enter_context(context())
            yield

    # Methods that a procedure calls.

    def gradients(self) -> Tensor:
        """Compute the gradients of the window; return its loss."""
        ((input, target),) = self.micro_batches
        self.model.optimizer.zero_grad()
        with ExitStack() as stack:
            for context in self._slots("forward_context"):
                stack.enter_context(context())
            prediction = self.model.nn_module(input)
            loss: Tensor = self.model.loss(prediction, target)
        for backward in self._slots("backward") or (torch.autograd.backward,):
            backward(loss)
        if self._is_first:
            self.losses.append(loss.item())
            self.predictions.append(prediction.detach())
            self._is_first = False
        return loss.detach()

    def parameters(self) -> Parameters:
        """Return the parameters of the optimizer."""
        return tuple(each for group in self.model.optimizer.param_groups for each in group["params"])

    def transform_gradients(self, parameters: Parameters) -> None:
        """Change the gradients of the window."""
        for transform in self._slots("transform_gradients"):
            transform(parameters)

    def allowed(self, parameters: Parameters) -> bool:
        """Return whether the update may happen."""
        loss = torch.tensor(self.losses[-1], device=self.model.device)
        return all(bool(vote(loss, parameters)) for vote in self._slots("allow_update"))

    def apply(self) -> bool:
        """Transform the gradients and, if all strategies agree, update the weights."""
        self.transform_gradients(self.parameters())
        return self.allowed(self.parameters()) and self.step()

    def step(self, closure: Callable[[], Tensor] | None = None) -> bool:
        """Update the weights."""
        optimizer = self.model.optimizer
        for apply in self._slots("apply_update"):
            return bool(apply(optimizer, closure))
        optimizer.step(closure)
        return True

    def _joined(self, window: Iterable[Batch]) -> Batch:
        prepared = []
        for batch in deep_to(list(window), self.model.device):
            for prepare in self._slots("prepare_batch"):
                batch = prepare(batch, self.model.device)
            prepared.append(batch)
        inputs, targets = zip(*prepared, strict=True)
        return torch.cat(inputs), torch.cat(targets)

    def _update(self) -> None:
        self._is_first = True
        procedure = self._slots("run_procedure")
        if procedure:
            stepped = procedure[0](self)
        else:
            self.gradients()
            stepped = self.apply()
        for follow in self._slots("after_update"):
            follow(self.model, stepped)


class _Autocast:
    def __init__(self, dtype: str, **scaling: Any) -> None:
        self.dtype = getattr(torch, dtype)

    @hookimpl
    def set_up(self, model: Model) -> None:
        self.device_type = model.device.type

    @hookimpl
    def forward_context(self) -> torch.autocast:
        return torch.autocast(self.device_type, self.dtype)


class _Window:
    def __init__(self, steps: int) -> None:
        self.steps = steps

    @hookimpl
    def window_size(self) -> int:
        return self.steps


class _ClippedNorm:
    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm

    @hookimpl
    def transform_gradients(self, parameters: Parameters) -> None:
        norm = torch.cat([each.grad.flatten() for each in parameters if each.grad is not None]).norm()
        for parameter in parameters:
            if parameter.grad is not None and norm > self.max_norm:
                parameter.grad *= self.max_norm / (norm + 1e-6)  # as in torch's clip_grad_norm_


class _ClippedValue:
    runs_before: ClassVar[tuple[str, ...]] = ("clip_grad_norm",)

    def __init__(self, clip_value: float) -> None:
        self.clip_value = clip_value

    @hookimpl
    def transform_gradients(self, parameters: Parameters) -> None:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.clamp_(-self.clip_value, self.clip_value)


class _Average:
    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.updates = 0

    @hookimpl
    def set_up(self, model: Model) -> None:
        self.module = model.nn_module
        self.averages = [parameter.detach().clone() for parameter in self.module.parameters()]

    @hookimpl
    def after_update(self, stepped: bool) -> None:
        if not stepped:
            return
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for average, parameter in zip(self.averages, self.module.parameters(), strict=True):
            average.copy_(decay * average + (1 - decay) * parameter.detach())

    @hookimpl
    @contextmanager
    def evaluation_context(self) -> Iterator[None]:
        trained = [parameter.detach().clone() for parameter in self.module.parameters()]
        _put(self.averages, self.module.parameters())
        yield
        _put(trained, self.module.parameters())


class _Sharpness:
    def __init__(self, rho: float) -> None:
        self.rho = rho

    @hookimpl
    def run_procedure(self, update: Loop) -> bool:
        update.gradients()
        before = [parameter.detach().clone() for parameter in update.parameters()]
        buffers = [buffer.clone() for buffer in update.model.nn_module.buffers()]
        slopes = [parameter.grad for parameter in update.parameters()]
        norm = torch.cat([slope.flatten() for slope in slopes if slope is not None]).norm()
        above = [
            value if slope is None else value + self.rho * slope / norm
            for value, slope in zip(before, slopes, strict=True)
        ]
        _put(above, update.parameters())
        update.gradients()
        _put(before, update.parameters())
        _put(buffers, update.model.nn_module.buffers())
        return update.apply()


class _Closure:
    @hookimpl
    def run_procedure(self, update: Loop) -> bool:
        def closure() -> Tensor:
            loss = update.gradients()
            update.transform_gradients(update.parameters())
            return loss

        return update.step(closure)


class _Frozen:
    def __init__(self, match: str, after: str) -> None:
        self.suffix, self.after = match.removeprefix("*"), int(after.removesuffix("up"))
        self.updates = 0

    @hookimpl
    def set_up(self, model: Model) -> None:
        named = model.nn_module.named_parameters()
        self.frozen = [parameter for name, parameter in named if name.endswith(self.suffix)]
        for parameter in self.frozen:
            parameter.requires_grad = False

    @hookimpl
    def after_update(self, stepped: bool) -> None:
        self.updates += stepped
        for parameter in self.frozen:
            parameter.requires_grad = self.updates >= self.after


def _put(values: Iterable[Tensor], tensors: Iterable[Tensor]) -> None:
    with torch.no_grad():
        for value, tensor in zip(values, tensors, strict=True):
            tensor.copy_(value)


BY_HAND: dict[str, Callable[..., Any] | None] = {
    "accumulate": _Window,
    "amp": _Autocast,
    "channels_last": None,
    "clip_grad_norm": _ClippedNorm,
    "clip_grad_value": _ClippedValue,
    "closure": _Closure,
    "compile": None,
    "ema": _Average,
    "finite_guard": None,
    "microbatch": None,
    "sam": _Sharpness,
    "unfreeze": _Frozen,
}
"""The hand-written form of each built-in strategy, with the same parameters; None: no effect here."""
