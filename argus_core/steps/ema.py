"""Exponential moving average (EMA) of the weights, for evaluation and prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import get_ema_multi_avg_fn

from argus_core.abstract_model import AbstractModel
from argus_core.errors import BuildError, ParamsError, StateMismatchError
from argus_core.hooks import hookimpl
from argus_core.steps.numbers import is_number
from argus_core.steps.parameters import PREFIX, loss_parameters
from argus_core.storage.stored import COUNT, Rule, check_fits
from argus_core.tensors.swapped import swapped

__all__ = ["EMA"]

_RULES = {
    "updates": COUNT,
    "averages": Rule(
        lambda value: isinstance(value, dict) and all(map(_is_average, value.values())), "tensors"
    ),
}
_BUFFERS = ("copy", "average")
_averaging = lru_cache(maxsize=1)(get_ema_multi_avg_fn)  # making it takes longer than calling it
_STATISTICS = frozenset(["running_mean", "running_var"])


class EMA:
    """An exponential moving average of the weights, used in validation and prediction, not in training.

    a <- d * a + (1 - d) * w after each update that moved the weights (Polyak and Juditsky 1992,
    doi:10.1137/0330046). The average begins as the weights before the first update. Checkpoints keep both
    sets. After each validation or prediction, also a failed one, the network has its own weights again.

    Args:
        decay: d, from 0 to below 1; the average spans about 1 / (1 - d) updates.
        warmup: whether d is min(decay, (1 + t) / (10 + t)) at update t, counting from 1, so that early
            weights soon lose their influence (as in TensorFlow's ``ExponentialMovingAverage``).
        buffers: ``"copy"`` evaluates with the network's current buffers, including running statistics;
            ``"average"`` averages running statistics like weights: the floating-point buffers called
            ``running_mean`` or ``running_var``, as normalisation layers have them. All other buffers are
            the current ones in both cases.
    """

    runs_after = ("channels_last",)
    evaluates_with = "averages"

    def __init__(self, decay: float = 0.999, warmup: bool = True, buffers: str = "copy") -> None:
        if not is_number(decay) or not 0 <= decay < 1:
            raise ParamsError(f"step 'ema': decay is {decay!r}; give a number of at least 0 and below 1")
        if buffers not in _BUFFERS:
            raise ParamsError(f"step 'ema': buffers is {buffers!r}; give 'copy' or 'average'")
        if type(warmup) is not bool:
            raise ParamsError(f"step 'ema': warmup is {warmup!r}; give True or False")
        self.decay = float(decay)
        self.warmup = warmup
        self.buffers = buffers
        self._updates = 0
        self._averages: dict[str, Tensor] = {}
        self._weights: list[Tensor] = []
        self._has_narrow = False
        self._hold: Callable[..., AbstractContextManager[None]] = swapped  # an engine may have another way
        # The parts of averages and weights that this process holds:
        self._own: tuple[list[Tensor], list[Tensor]] = [], []

    @hookimpl
    def set_up(self, model: AbstractModel) -> None:
        engine = model.parallel
        self._hold = engine.holding
        weights = self._averaged(model)
        _check_shapes(weights)
        # Before the first update the average equals the weights, which may have been loaded since set_up.
        averages = self._averages if self._updates else {}
        if averages:
            averages = _fitting(averages, weights, model)
        started = {name: _wide(weight.detach()).clone() for name, weight in weights.items()}
        for name, average in averages.items():  # the layout and the device of the weights
            started[name].copy_(engine.place(started[name], average))
        self._averages = started
        self._weights = list(weights.values())
        self._own = [*map(engine.local, started.values())], [*map(engine.local, self._weights)]
        self._has_narrow = any(map(_is_narrow, self._weights))

    @hookimpl
    def after_update(self, model: AbstractModel, stepped: bool) -> None:
        if not stepped:
            return
        self._updates += 1
        decay = self.decay
        if self.warmup:
            decay = min(decay, (1 + self._updates) / (10 + self._updates))
        averages, weights = self._own
        weights = [_wide(weight) for weight in weights] if self._has_narrow else weights
        _averaging(decay)(averages, weights, None)

    @hookimpl
    @contextmanager
    def evaluation_context(self) -> Iterator[None]:
        with self._hold(self._weights, [*self._averages.values()]):
            yield

    @hookimpl
    def state_dict(self) -> dict[str, Any]:
        return {"updates": self._updates, "averages": dict(self._averages)} if self._updates else {}

    @hookimpl
    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_fits(state, _RULES)
        self._updates = state["updates"]
        self._averages = dict(state["averages"])

    def _averaged(self, model: AbstractModel) -> dict[str, Tensor]:
        """Return the averaged weights and buffers of the model, by name."""
        network = model.get_nn_module()
        weights = {name: each for name, each in network.named_parameters() if _can_be_averaged(each)}
        # A loss may hold a large frozen network.
        held = model.held_parameters()
        own = loss_parameters(model)
        weights |= {name: each for name, each in own.items() if each.requires_grad or name in held}
        buffers = network.named_buffers() if self.buffers == "average" else ()
        return weights | {name: buffer for name, buffer in buffers if _is_statistic(name, buffer)}


def _can_be_averaged(weight: nn.Parameter) -> bool:
    """Return whether a weight requires grad, or is a finite number: a frozen mask may hold infinity."""
    if is_lazy(weight) or weight.requires_grad:
        return True
    is_number = weight.is_floating_point() or weight.is_complex()
    return is_number and bool(torch.isfinite(_wide(weight.detach())).all())


def _is_statistic(name: str, buffer: Tensor) -> bool:
    return name.rpartition(".")[2] in _STATISTICS and buffer.is_floating_point()


def _is_average(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided and value.dtype is not torch.bool


def _check_shapes(weights: dict[str, Tensor]) -> None:
    for name, weight in weights.items():
        if is_lazy(weight):
            raise BuildError(
                f"step 'ema' averages weights, and {name!r} of a lazy layer has no shape yet; give the layer "
                "its sizes, or put one batch through model.nn_module before training"
            )


def _wide(tensor: Tensor) -> Tensor:
    """Return a tensor in the dtype of its average: in less than 32 bits small changes would round to zero."""
    return tensor.float() if _is_narrow(tensor) else tensor


def _is_narrow(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.itemsize < torch.float32.itemsize


def _fitting(
    averages: dict[str, Tensor], weights: dict[str, Tensor], model: AbstractModel
) -> dict[str, Tensor]:
    """Return those of the stored averages that the model still averages.

    A new loss's averages begin as its weights. A stored average of a buffer is dropped if the buffer is no
    longer averaged.

    Raises:
        StateMismatchError: the averages belong to another network.
    """
    network = model.get_nn_module()
    copied = dict(chain[tuple[str, Tensor]](network.named_parameters(), network.named_buffers()))
    ours = {name: tuple(weight.shape) for name, weight in weights.items()}
    stored = {name: tuple(average.shape) for name, average in averages.items()}
    of_loss = loss_parameters(model).keys() | {name for name in stored if name.startswith(PREFIX)}
    for name in chain(ours, stored):
        is_free = name in of_loss - copied.keys() or (name in copied and name not in ours)
        if ours.get(name) != stored.get(name) and not is_free:
            raise StateMismatchError(
                f"the stored averages of step 'ema' do not fit the network: {name!r} is "
                f"{stored.get(name, 'missing')} in the file and {ours.get(name, 'missing')} in the network; "
                "build it with the parameters it was saved with, or load with step=None"
            )
    return {name: each for name, each in averages.items() if ours.get(name) == stored[name]}
