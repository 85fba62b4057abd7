"""What a model is put together from: each part chosen, built in order, and on its device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from argus_core.abstract_model import AbstractModel
from argus_core.errors import BuildError, SpecError
from argus_core.model.choice import choose, choose_steps
from argus_core.registry import registry
from argus_core.registry.factory import call_factory, initial_values
from argus_core.registry.part import KIND_OF_PART, Part
from argus_core.steps.parameters import named_parameters
from argus_core.steps.updater import Updater
from argus_core.tensors.device import resolve_devices

__all__ = ["Assembly", "unchanged"]


def unchanged(prediction: Any) -> Any:
    """Return a prediction as it is: the transform of a model for which none is chosen."""
    return prediction


class Assembly(AbstractModel):
    """Abstract: the parts of a model, and the methods that choose, build and move them.

    `Model` calls them when it is made, and a subclass of it may override each. Those for a part get its
    factory and parameters.
    """

    nn_module: Any = None
    loss: Any = None
    optimizer: Any = None
    prediction_transform: Any = None
    step: Any = None

    build_order: Sequence[str] = ("nn_module", "loss", "device", "optimizer", "prediction_transform")
    """The optimizer holds on to the parameters as they are, so the device comes before it."""

    # What load_model has already looked up, so that a checkpoint's names win over later registrations.
    bindings: Mapping[tuple[str, str], registry.Component] = MappingProxyType({})
    # How load_model has the network built: called with build_nn_module and the part.
    restore_network: Callable[[Callable[..., Any], Part], Any] | None = None
    # How load_model limits the memory of what is built: called with the part's slot and label.
    allowance: Callable[[str, str], AbstractContextManager[None]] | None = None
    # Parts whose values are overwritten, or not looked at, once the model is built.
    overwritten: frozenset[str] = frozenset()

    params: dict[str, Any]
    parts: dict[str, Part | None]
    device: torch.device
    _devices: list[torch.device]
    _updater: Updater | None  # made of the parts where they are; anew after they have moved

    # Choosing and building.

    def choose_parts(self) -> dict[str, Part | None]:
        """Return what ``self.params`` choose of what the class offers, and ``None`` for what is left out."""
        parts = {
            slot: choose(
                kind,
                slot,
                getattr(type(self), slot),
                slot in self.params,
                self.params.get(slot),
                self._resolve,
            )
            for slot, kind in KIND_OF_PART.items()
        }
        if parts["nn_module"] is None:
            raise SpecError("params['nn_module'] is missing; name a network: argus list nn_module")
        return parts

    def choose_steps(self) -> list[Part]:
        """Return the step strategies that ``self.params`` or the class choose."""
        return choose_steps(type(self).step, self.params, self._resolve)

    def build_slot(self, slot: str) -> None:
        """Build what ``slot`` of `build_order` names and put it into the attribute of that name."""
        if slot == "device":
            self.set_device(self.params.get("device", "auto"))
            return
        part = self.parts[slot]
        built = None
        if part is not None:
            # Said anew for each: a part may itself build a whole model, which nothing overwrites.
            with initial_values(wanted=slot not in self.overwritten), self._limited(slot, part.label):
                built = self.build_part(slot, part)
            _check_built(part, slot, built)
        setattr(self, slot, built)

    def build_part(self, slot: str, part: Part) -> Any:
        """Return the part, built by the method for ``slot``."""
        build = getattr(self, f"build_{slot}")
        if slot == "nn_module" and self.restore_network is not None:
            return self.restore_network(build, part)
        return build(part.factory, dict(part.params))

    def build_nn_module(self, factory: Callable[..., nn.Module], params: Mapping[str, Any]) -> nn.Module:
        """Return the network."""
        module: nn.Module = self._call("nn_module", factory, (), params)
        return module

    def build_loss(self, factory: Callable[..., Any], params: Mapping[str, Any]) -> Any:
        """Return the loss function."""
        return self._call("loss", factory, (), params)

    def build_optimizer(self, factory: Callable[..., Optimizer], params: Mapping[str, Any]) -> Optimizer:
        """Return the optimizer of the parameters of network and loss that require grad."""
        trainable = self.trainable_parameters()
        if not trainable:
            raise BuildError(
                "no parameter of nn_module or loss requires grad; unfreeze some or set optimizer to None"
            )
        optimizer: Optimizer = self._call("optimizer", factory, (trainable,), params)
        return optimizer

    def build_prediction_transform(self, factory: Callable[..., Any], params: Mapping[str, Any]) -> Any:
        """Return what turns the network's output into a prediction."""
        return self._call("prediction_transform", factory, (), params)

    def build_device(self, device: Any) -> list[torch.device]:
        """Return the devices to use, the output device first."""
        return resolve_devices(device)

    # The network and where it is.

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that require grad: the network's, then those that only the loss has.

        A `build_optimizer` that makes groups of its own puts all of them into one.
        """
        return [parameter for parameter in named_parameters(self).values() if parameter.requires_grad]

    def get_nn_module(self) -> nn.Module:
        """Return the network itself, without the wrapper that several devices need."""
        module: nn.Module = self.nn_module
        return module.module if isinstance(module, nn.DataParallel) else module

    def get_device(self) -> torch.device | list[torch.device]:
        """Return the device, or the list of devices of `torch.nn.DataParallel`."""
        return self._devices[0] if len(self._devices) == 1 else list(self._devices)

    def set_device(self, device: Any) -> None:
        """Move network, loss and optimizer state to a device, or to a list of CUDA devices."""
        self.move_to(self.build_device(device))

    def move_to(self, devices: torch.device | Sequence[torch.device]) -> None:
        """Move network, loss and optimizer state to devices that are known to exist."""
        self._devices = [devices] if isinstance(devices, torch.device) else list(devices)
        self.device = self._devices[0]
        module = self.get_nn_module().to(self.device)
        several = len(self._devices) > 1
        self.nn_module = nn.DataParallel(module, device_ids=self._devices) if several else module
        self.nn_module.training = module.training  # a new wrapper's is True
        if isinstance(self.loss, nn.Module):
            self.loss.to(self.device)
        if isinstance(self.optimizer, Optimizer):
            self.optimizer.load_state_dict(self.optimizer.state_dict())  # moves its state to the parameters
        self._updater = None

    # Inside.

    def _limited(self, slot: str, label: str) -> AbstractContextManager[None]:
        """Return what a part is built in; a network that is restored has a limit of its own."""
        if self.allowance is None or (slot == "nn_module" and self.restore_network is not None):
            return nullcontext()
        return self.allowance(slot, label)

    def _resolve(self, kind: str, name: str) -> registry.Component:
        return self.bindings.get((kind, name)) or registry.resolve(kind, name)

    def _call(
        self, slot: str, factory: Callable[..., Any], args: tuple[Any, ...], params: Mapping[str, Any]
    ) -> Any:
        part = self.parts[slot]
        assert part is not None
        return call_factory(part.label, factory, args, params)


def _check_built(part: Part, slot: str, built: Any) -> None:
    """Refuse what a factory, or an overridden build method, returned by mistake."""
    accepted, is_right = {
        "nn_module": ("a torch.nn.Module", isinstance(built, nn.Module)),
        "optimizer": ("a torch.optim.Optimizer", built is None or hasattr(built, "param_groups")),
    }.get(slot, ("a callable", built is None or callable(built)))
    if not is_right:
        raise BuildError(
            f"{part.label} was built as {built!r}; its factory, or build_{slot}, must return {accepted}"
        )
