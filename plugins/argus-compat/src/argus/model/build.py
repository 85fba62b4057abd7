"""Building the parts of a model from class attributes and params, each in a method that can be overridden."""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim import Optimizer

import argus_core
from argus.callbacks.logging import LINE_FORMAT
from argus.errors import NotReadyError, also
from argus.model.choice import (
    DEFAULT_ATTRIBUTE_VALUES,
    cast_device,
    cast_loss,
    cast_nn_module,
    cast_optimizer,
    cast_prediction_transform,
    choose_attribute_from_dict,
    choose_part,
)
from argus.types import AttrMeta, Devices, InputDevices
from argus.utils import Identity, check_pickleble, device_to_str
from argus_core import ArgusError, BuildError, ParamsError, SpecError, resolve
from argus_core.authors import KIND_OF_PART, LineFormatter, Part, Single, Weights

__all__ = [
    "ATTRS_BUILD_ORDER",
    "DEFAULT_ATTRIBUTE_VALUES",
    "PREDICT_ATTRS",
    "TRAIN_ATTRS",
    "BuildModel",
    "cast_device",
    "cast_loss",
    "cast_nn_module",
    "cast_optimizer",
    "cast_prediction_transform",
    "choose_attribute_from_dict",
]

ATTRS_BUILD_ORDER = ("nn_module", "optimizer", "loss", "device", "prediction_transform")
TRAIN_ATTRS = frozenset(ATTRS_BUILD_ORDER)
PREDICT_ATTRS = frozenset({"nn_module", "device", "prediction_transform"})

# Attributes that argus_core reads from a model in a run; pytorch-argus does not have them.
_NEEDED = frozenset(
    "build_weights evaluation extra_state forward_loss held_parameters is_finite load_module_modes "
    "load_step_state module_modes move_to step_state training traits trainable_parameters "
    "transform_prediction".split()
)
_KEPT = frozenset({"parallel", "parts", "step_parts"})


class _Batches(Weights):
    """The loss weight of pytorch-argus: each batch counts 1, whatever its number of samples."""

    def __init__(self, model: argus_core.Model) -> None:
        super().__init__(model, argus_core.Model, _one)

    def is_sum(self) -> bool:
        return False


class BuildModel(argus_core.Model, name="argus.BuildModel"):
    """Abstract model: builds the parts.

    Args:
        params: the choice for each part: ``{params}``, ``(name, {params})`` or a name; ``None`` leaves the
            part out. Other keys belong to the script. Values can be anything that pickle can write.
        build_order: the parts in the order in which they are built.
    """

    device: Any = None
    _is_built = False

    def __init__(self, params: Mapping[str, Any], build_order: Iterable[str] = ATTRS_BUILD_ORDER) -> None:
        self.build_order: Sequence[str] = tuple(build_order)
        with also(KeyError):
            _check_order(self.build_order)
        for slot in KIND_OF_PART.keys() - set(self.build_order):
            setattr(self, slot, None)
        with also(ValueError, TypeError, KeyError):
            super().__init__(params)
        if self.parts["prediction_transform"] is None:
            self.prediction_transform = None  # the model is not ready to predict
        self._is_built = True

    def __setattr__(self, name: str, value: Any) -> None:
        if (name in _NEEDED and not callable(value)) or (name in _KEPT and self._is_built):
            raise BuildError(
                f"{type(self).__name__} sets self.{name}, which argus_core.Model uses itself; give the "
                "attribute another name"
            )
        super().__setattr__(name, value)

    def choose_parallel(self) -> Single:
        """Return the engine of one process: a script that runs in several shares its network by itself."""
        return Single()

    def build_logger(self) -> logging.Logger:
        """Return the logger of the model, which writes to standard output."""
        logger = logging.getLogger(f"{__name__}_{id(self)}")
        logger.setLevel(logging.INFO)
        for handler in [*logger.handlers]:  # of an earlier model
            logger.removeHandler(handler)
        handler = logging.StreamHandler(sys.stdout)
        handler.setLevel(logging.INFO)
        handler.setFormatter(LineFormatter(LINE_FORMAT))
        logger.addHandler(handler)
        logger.disabled = False
        return logger

    def check_params(self, params: Any) -> dict[str, Any]:
        """Return the model's own copy of ``params``.

        Raises:
            ParamsError: they cannot be saved.
            SpecError: they are not a dict.
        """
        if not isinstance(params, Mapping):
            raise SpecError(f"params of the model is {params!r}; give a dict")
        try:
            check_pickleble(dict(params))
        except Exception as error:  # a class may raise anything when it is pickled
            raise ParamsError(
                f"params contain a value that cannot be saved ({error}); set it in the model's class instead"
            ) from error
        return copy.deepcopy(dict(params))

    def choose_parts(self) -> dict[str, Part | None]:
        """Return the parts that ``self.params`` choose, for checkpoints of argus_core."""
        return {slot: self._part(slot) if slot in self.build_order else None for slot in KIND_OF_PART}

    def choose_steps(self) -> list[Part]:
        """Return no step strategies, since ``train_step`` makes the whole update."""
        return []

    def set_part(self, part: str) -> None:
        """Build a part, and set the attribute of that name."""
        if part != "device":
            super().set_part(part)
            return
        param = copy.deepcopy(self.params.get(part, {}))
        self.move_to(self.build_device(self._meta(part), param))

    def build_part(self, part: str, chosen: Part) -> Any:
        """Return the part, built by its method from the class attribute and params."""
        build = getattr(self, f"build_{part}")
        return build(self._meta(part), copy.deepcopy(self.params.get(part, {})))

    def build_nn_module(self, nn_module_meta: AttrMeta, nn_module_params: Any) -> nn.Module:
        """Return the network."""
        return super().build_nn_module(*self._chosen("nn_module", nn_module_meta, nn_module_params))

    def build_optimizer(self, optimizer_meta: AttrMeta, optim_params: Any) -> Optimizer:
        """Return the optimizer of the network's parameters that require grad."""
        return super().build_optimizer(*self._chosen("optimizer", optimizer_meta, optim_params))

    def build_loss(self, loss_meta: AttrMeta, loss_params: Any) -> Any:
        """Return the loss function."""
        return super().build_loss(*self._chosen("loss", loss_meta, loss_params))

    def build_prediction_transform(self, transform_meta: AttrMeta, transform_params: Any) -> Any:
        """Return the transform from the network's output to a prediction."""
        chosen = self._chosen("prediction_transform", transform_meta, transform_params)
        return super().build_prediction_transform(*chosen)

    def build_device(  # type: ignore[override]
        self, device_meta: InputDevices, device_param: InputDevices | dict[str, Any]
    ) -> Devices:
        """Return the device, or several."""
        return cast_device(device_param or device_meta)  # type: ignore[arg-type]

    def set_device(self, device: InputDevices) -> None:
        """Move network and loss to a device, or to a list of CUDA devices."""
        with also(ValueError):
            self.move_to(cast_device(device))

    def move_to(self, devices: torch.device | Sequence[torch.device]) -> None:
        """Move network and loss to existing devices, and store these in params."""
        super().move_to(devices)
        self.params["device"] = device_to_str(self.get_device())

    def get_nn_module(self) -> nn.Module:
        """Return the network itself, without a wrapper for several devices or processes."""
        module: nn.Module = self.nn_module
        return module.module if isinstance(module, DataParallel | DistributedDataParallel) else module

    def build_weights(self, of_step: Any) -> Weights:
        """Return the weights of batches' losses: 1 each."""
        return _Batches(self)

    def train_ready(self) -> bool:
        """Return whether all parts are there."""
        return not _missing(self, TRAIN_ATTRS)

    def predict_ready(self) -> bool:
        """Return whether network, device and prediction_transform are there."""
        return not _missing(self, PREDICT_ATTRS)

    def __repr__(self) -> str:
        parts = ", ".join(f"{slot}={getattr(self, slot, None)!r}" for slot in ATTRS_BUILD_ORDER)
        return f"{type(self).__name__}(params={getattr(self, 'params', None)!r}, {parts})"

    def _check_train_ready(self) -> None:
        _check_there(self, TRAIN_ATTRS, "train or validate")

    def _check_predict_ready(self) -> None:
        _check_there(self, PREDICT_ATTRS, "predict")

    def _meta(self, slot: str) -> Any:
        offered = getattr(type(self), slot)
        return DEFAULT_ATTRIBUTE_VALUES[slot] if offered is None else offered

    def _part(self, slot: str) -> Part | None:
        value = self.params.get(slot, {})
        own = getattr(type(self), f"build_{slot}")
        if value is None and slot != "nn_module":
            return None
        if getattr(type(self), slot) is None and slot == "prediction_transform" and value == {}:
            component = resolve("transform", "argus-torch/Identity")  # the plain form of the value
            return Part("transform", "Identity", {}, component, Identity)
        try:
            return choose_part(slot, self._meta(slot), value, self._resolve)
        except ArgusError:
            if own is getattr(BuildModel, f"build_{slot}"):
                raise
            return Part(KIND_OF_PART[slot], own.__qualname__, {}, None, own)  # it handles the value itself

    def _chosen(self, slot: str, meta: Any, params: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
        part = choose_part(slot, meta, params, self._resolve)
        return part.factory, dict(part.params)


def _check_order(order: Sequence[str]) -> None:
    unknown = [slot for slot in order if slot not in ATTRS_BUILD_ORDER]
    missing = [slot for slot in ("nn_module", "device") if slot not in order]
    if unknown or missing:
        raise SpecError(
            f"build_order is {order}, which {'lacks' if missing else 'has'} {(missing or unknown)[0]!r}; "
            f"give {', '.join(ATTRS_BUILD_ORDER)} in another order"
        )


def _missing(model: BuildModel, attributes: Iterable[str]) -> list[str]:
    return sorted(name for name in attributes if getattr(model, name, None) is None)


def _check_there(model: BuildModel, attributes: Iterable[str], purpose: str) -> None:
    missing = _missing(model, attributes)
    if missing:
        raise NotReadyError(
            f"the model has no {' and no '.join(missing)}, so it cannot {purpose}; choose "
            f"{'one' if len(missing) == 1 else 'them'} in params, or load it without "
            f"{' and '.join(f'{name}=None' for name in missing)}"
        )


def _one(batch: Any) -> int:
    return 1
