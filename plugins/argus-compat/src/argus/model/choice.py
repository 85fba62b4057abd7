"""The choices that a model's class offers for its parts, and the choice in params."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from argus.loss import pytorch_losses
from argus.optimizer import pytorch_optimizers
from argus.types import AttrMeta, Devices, InputDevices
from argus.utils import Identity
from argus_core import BuildError, Component, SpecError, resolve
from argus_core.authors import KIND_OF_PART, Part, choose, parse_spec, resolve_devices

__all__ = [
    "DEFAULT_ATTRIBUTE_VALUES",
    "cast_device",
    "cast_loss",
    "cast_nn_module",
    "cast_optimizer",
    "cast_prediction_transform",
    "choose_attribute_from_dict",
    "choose_part",
]

DEFAULT_ATTRIBUTE_VALUES: dict[str, Any] = {
    "nn_module": None,
    "optimizer": pytorch_optimizers,
    "loss": pytorch_losses,
    "device": torch.device("cpu"),
    "prediction_transform": Identity,
}
"""The value of an attribute that a model's class does not set."""


def choose_attribute_from_dict(attribute_meta: AttrMeta, attribute_params: Any) -> tuple[Any, dict[str, Any]]:
    """Return the class (or its name) that params choose among those of the model's class, and its parameters.

    Raises:
        SpecError: the model's class does not offer the choice.
    """
    if not isinstance(attribute_meta, Mapping):
        if not isinstance(attribute_params, Mapping):
            raise SpecError(
                f"the params of {attribute_meta!r}, which the model class fixes, are {attribute_params!r}; "
                "give a dict"
            )
        return attribute_meta, dict(attribute_params)
    spec = parse_spec("model", attribute_params, "params")
    if spec.name not in attribute_meta:
        raise SpecError(
            f"params name {spec.name!r}; the model class offers {', '.join(map(repr, attribute_meta))}"
        )
    return attribute_meta[spec.name], dict(spec.params)


def cast_nn_module(nn_module: Any) -> Any:
    """Return the class or function that builds a network."""
    return _cast("nn_module", nn_module)


def cast_optimizer(optimizer: Any) -> Any:
    """Return the class or function that builds an optimizer, by its name too."""
    return _cast("optimizer", optimizer)


def cast_loss(loss: Any) -> Any:
    """Return the class or function that builds a loss, by its name too."""
    return _cast("loss", loss)


def cast_prediction_transform(transform: Any) -> Any:
    """Return the class or function that builds a prediction transform."""
    return _cast("transform", transform)


def cast_device(device: InputDevices) -> Devices:
    """Return the device, or several.

    Raises:
        SpecError: the value is not a device.
        BuildError: this machine does not have the device.
    """
    devices = resolve_devices(device)
    return devices[0] if len(devices) == 1 else devices


def _cast(kind: str, value: Any) -> Any:
    if isinstance(value, str):
        return resolve(kind, value).load()
    if not callable(value):
        raise SpecError(f"{kind} is {value!r}; give a class, a function that builds one, or a name")
    return value


def choose_part(slot: str, meta: Any, value: Any, lookup: Callable[[str, str], Component]) -> Part:
    """Return the chosen part for an attribute of the model's class."""
    # The registry has the losses and optimizers of torch and of plugins.
    is_open = meta is DEFAULT_ATTRIBUTE_VALUES[slot] and not (slot == "prediction_transform" and value == {})
    part = choose(KIND_OF_PART[slot], slot, None if is_open else meta, True, value, lookup)
    if part is None:
        raise BuildError(f"params[{slot!r}] is None, and the model needs it; give its parameters or a name")
    return part
