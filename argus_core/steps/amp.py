"""Automatic mixed precision: forward and loss in half precision, fp16 with loss scaling."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import get_autocast_dtype, is_autocast_cache_enabled, is_autocast_enabled

from argus_core.abstract_model import AbstractModel
from argus_core.errors import BuildError, ParamsError
from argus_core.hooks import hookimpl
from argus_core.steps.hooks import Closure
from argus_core.steps.numbers import is_count, is_number
from argus_core.steps.parameters import named_parameters
from argus_core.storage.stored import COUNT, Rule, check_fits
from argus_core.tensors.batch import deep_map

__all__ = ["AMP"]

_POSITIVE = Rule(lambda value: is_number(value) and 0 < value < math.inf, "a positive number")
_RULES = {
    "scale": _POSITIVE,
    "growth_factor": _POSITIVE,
    "backoff_factor": _POSITIVE,
    "growth_interval": Rule(is_count, "an integer from 1 up"),
    "_growth_tracker": COUNT,
}
_SCALING = ("scale_loss", "unscale", "apply_update", "after_update")
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class AMP:
    """Automatic mixed precision: forward and loss under `torch.autocast`, in training and evaluation.

    ``float16`` scales the loss (`torch.amp.GradScaler`) so that small gradients survive, and skips the
    updates whose gradients overflow; ``bfloat16`` has float32's range and needs no scaling. Weights and
    optimizer state stay in float32 (Micikevicius et al. 2018, arXiv:1710.03740).

    Args:
        dtype: ``"bfloat16"``, ``"float16"``, or ``"auto"``: float16 on CUDA devices without bfloat16
            support, bfloat16 everywhere else.
        init_scale: the first loss scale (float16 only).
        growth_factor: the factor of the scale after ``growth_interval`` updates without overflow.
        backoff_factor: the factor of the scale after an overflow.
        growth_interval: in updates.
        float32_predictions: whether to convert predictions to float32 before ``prediction_transform``, for
            metrics and `Model.predict`; else they keep the dtype of the forward pass.
    """

    def __init__(
        self,
        dtype: str = "auto",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        float32_predictions: bool = True,
    ) -> None:
        if dtype not in ("auto", *_DTYPES):
            raise ParamsError(f"step 'amp': dtype is {dtype!r}; give 'auto', 'bfloat16' or 'float16'")
        if not is_count(growth_interval):
            raise ParamsError(
                f"step 'amp': growth_interval is {growth_interval!r}; give an integer of at least 1 (updates)"
            )
        factors = (init_scale, growth_factor, backoff_factor)
        if not all(map(is_number, factors)) or not (
            0 < init_scale < math.inf and math.inf > growth_factor > 1 > backoff_factor > 0
        ):
            raise ParamsError(
                f"step 'amp': init_scale, growth_factor and backoff_factor are {init_scale!r}, "
                f"{growth_factor!r} and {backoff_factor!r}; "
                "give finite numbers with init_scale > 0 and growth_factor > 1 > backoff_factor > 0"
            )
        if type(float32_predictions) is not bool:
            raise ParamsError(
                f"step 'amp': float32_predictions is {float32_predictions!r}; give True or False"
            )
        self.dtype = dtype
        self.float32_predictions = float32_predictions
        self._scaling: dict[str, Any] = {
            "init_scale": init_scale,
            "growth_factor": growth_factor,
            "backoff_factor": backoff_factor,
            "growth_interval": growth_interval,
        }
        self._device_type = "cpu"
        self._autocast_dtype = torch.bfloat16
        self._autocast = torch.autocast(self._device_type, self._autocast_dtype)
        self._around: tuple[bool, torch.dtype, bool] | None = None  # the state to enter _autocast in
        self._scaler: torch.amp.GradScaler | None = None
        self._state: dict[str, Any] = {}
        self._awaits_update = False
        self._overflowed = False

    def traits(self, model: AbstractModel) -> set[str]:
        """Return ``{"grad_scaler"}`` where the loss is scaled; strategies declare conflicts with it."""
        return {"grad_scaler"} if self._dtype_on(model.device) is torch.float16 else set()

    def idle_slots(self, model: AbstractModel) -> tuple[str, ...]:
        """Return the slots that do nothing: of the loss scaler, of float32 predictions."""
        scaling = () if self._dtype_on(model.device) is torch.float16 else _SCALING
        return scaling if self.float32_predictions else (*scaling, "finish_prediction")

    @hookimpl
    def set_up(self, model: AbstractModel) -> None:
        self._device_type = model.device.type
        self._autocast_dtype = self._dtype_on(model.device)
        self._around = None
        if torch.amp.is_autocast_available(self._device_type):  # else the first forward pass raises
            self._autocast = torch.autocast(model.device.type, self._autocast_dtype, cache_enabled=True)
            self._around = False, get_autocast_dtype(self._device_type), True
        if self._autocast_dtype is torch.float16:
            _check_not_complex(model)
            self._state = self.state_dict()
            self._scaler = torch.amp.GradScaler(self._device_type, **self._scaling)
            self.load_state_dict(self._state)
        else:
            self._scaler = None

    @hookimpl
    def forward_context(self) -> torch.autocast:
        # Making a context takes longer than entering it. A shared one restores the state from before its last
        # entry, which another thread or a nested entry may have made: so that state must always be the same.
        kind, around = self._device_type, self._around
        if around and around == (
            is_autocast_enabled(kind),
            get_autocast_dtype(kind),
            is_autocast_cache_enabled(),
        ):
            return self._autocast
        return torch.autocast(kind, self._autocast_dtype)

    @hookimpl
    def finish_prediction(self, prediction: Any) -> Any:
        return deep_map(prediction, self._widened)

    @hookimpl
    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        assert self._scaler is not None
        if self._awaits_update:  # gradients are computed again within one update: the scaler counts each time
            self._update_scale()
        return self._scaler.scale(loss)

    @hookimpl
    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        assert self._scaler is not None
        self._scaler.unscale_(optimizer)
        self._awaits_update = True

    @hookimpl
    def apply_update(self, optimizer: torch.optim.Optimizer, closure: Closure | None) -> bool:
        assert self._scaler is not None
        if not self._overflowed:  # in earlier gradients of this update
            self._scaler.step(optimizer)
        self._update_scale()
        return not self._overflowed

    @hookimpl(tryfirst=True)
    def after_update(self, model: AbstractModel, stepped: bool) -> None:
        # Where another strategy rejected the update, the scaler still has to update its scale.
        if self._awaits_update:
            self._update_scale()
        self._overflowed = False

    @hookimpl
    def state_dict(self) -> dict[str, Any]:
        return self._state if self._scaler is None else self._scaler.state_dict()

    @hookimpl
    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            check_fits(state, _RULES)
        # Kept for set_up, which makes the scaler. Options given since then override the stored ones.
        self._state = {name: self._scaling.get(name, value) for name, value in state.items()}
        if self._scaler is not None and state:
            self._scaler.load_state_dict(self._state)

    def _widened(self, prediction: torch.Tensor) -> torch.Tensor:
        return prediction.float() if prediction.dtype is self._autocast_dtype else prediction

    def _update_scale(self) -> None:
        assert self._scaler is not None
        before = self._scaler.get_scale()
        self._scaler.update()
        self._awaits_update = False
        # The only public sign of a skipped step: a fused optimizer's step is called either way.
        self._overflowed |= self._scaler.get_scale() < before

    def _dtype_on(self, device: torch.device) -> torch.dtype:
        if self.dtype != "auto":
            return _DTYPES[self.dtype]
        if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.float16
        return torch.bfloat16


def _check_not_complex(model: AbstractModel) -> None:
    for name, parameter in named_parameters(model).items():
        if parameter.is_complex():
            raise BuildError(
                f"amp with float16 cannot unscale complex gradients, and {name!r} is complex; choose "
                "dtype='bfloat16'"
            )
