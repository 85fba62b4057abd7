"""The assembly of a model: its parts are chosen, built in order and moved to the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer

from argus_core.abstract_model import AbstractModel
from argus_core.errors import BuildError, SpecError
from argus_core.model.build_options import USUAL, BuildOptions
from argus_core.model.choice import choose, choose_steps, split_options
from argus_core.parallel.single import Single
from argus_core.registry import registry
from argus_core.registry.factory import call_factory, initial_values
from argus_core.registry.file_params import READS, check_param
from argus_core.registry.part import KIND_OF_PART, Part
from argus_core.steps.composition import Composed
from argus_core.steps.parameters import named_parameters
from argus_core.steps.updater import Updater
from argus_core.tensors.device import resolve_devices
from argus_core.tensors.single_process import started_processes

if TYPE_CHECKING:
    from argus_core.model.initial_weights import InitialWeights
    from argus_core.parallel.engine import AbstractParallel

__all__ = ["Assembly", "unchanged"]

Made = TypeVar("Made", bound="Assembly")


def unchanged(prediction: Any) -> Any:
    """Return a prediction unchanged: the default prediction transform."""
    return prediction


class Assembly(AbstractModel):
    """Abstract: the parts of a model, and the methods that choose, build and move them.

    `Model` calls them in its constructor, and a subclass may override each. Those for a part receive its
    factory and parameters.
    """

    nn_module: Any = None
    loss: Any = None
    optimizer: Any = None
    prediction_transform: Any = None
    step: Any = None
    initial_weights: InitialWeights | None = None

    build_order: Sequence[str] = (
        "nn_module", "loss", "device", "parallel", "optimizer", "prediction_transform",
    )  # fmt: skip
    """The order of building; the optimizer holds the parameters that device and engine have made."""

    params: dict[str, Any]
    parts: dict[str, Part | None]
    device: torch.device
    parallel: AbstractParallel | Single
    _composed: Composed
    _devices: list[torch.device]
    _updater: Updater | None  # of the parts on their device; built again after a move or a change
    _build_options = USUAL

    def __new__(cls: type[Made], *args: Any, **kwargs: Any) -> Made:
        model: Made = super().__new__(cls)
        options = BuildOptions.take()
        if options is not USUAL:
            vars(model)["_build_options"] = options
        return model

    # Choosing and building.

    def choose_parts(self) -> dict[str, Part | None]:
        """Return the parts that ``self.params`` choose from the class's offers; ``None`` if omitted."""
        params = self.params
        parts = {
            part: choose(
                kind, part, getattr(type(self), part), part in params, params.get(part), self._resolve
            )
            for part, kind in KIND_OF_PART.items()
        }
        if parts["nn_module"] is None:
            raise SpecError("params['nn_module'] is missing; name a network: argus list nn_module")
        return parts

    def choose_steps(self) -> list[Part]:
        """Return the step strategies that ``self.params`` or the class choose."""
        return choose_steps(type(self).step, self.params, self._resolve)

    def choose_parallel(self) -> AbstractParallel | Single:
        """Return the engine that ``params["parallel"]`` chooses.

        In a run of one process that is `Single`, and a file's choice is not even looked up.
        """
        options = self._build_options
        if started_processes() == 1 and ("parallel" not in self.params or options.source is not None):
            return Single()
        from argus_core.model.sharing import chosen_engine  # lazy: most runs have one process

        return chosen_engine(self.params, self._resolve)

    def set_part(self, part: str) -> None:
        """Build a ``part`` of `build_order`, and set the attribute of that name."""
        if part == "parallel":
            if started_processes() > 1:
                self._share()
            return
        if part == "device":
            self.set_device(self.params.get("device", "auto"))
            return
        chosen, built = self.parts[part], None
        if chosen is not None:
            # Set for each part: a part may itself build a whole model, whose values are not overwritten.
            wanted = part not in self._build_options.overwritten
            with initial_values(wanted=wanted), self._limited(part, chosen.label):
                built = self._build_shared(part, chosen)
            _check_built(part, chosen, built)
        setattr(self, part, built)
        if part == "nn_module":
            if not self._awaits_values:
                self._take_weights()
            self._freeze(self.params.get("freeze"))
        self._updater = None

    def build_part(self, part: str, chosen: Part) -> Any:
        """Return a built part; ``build_loss`` builds the part ``loss``."""
        build, restore = getattr(self, f"build_{part}"), self._build_options.restore_network
        if part == "nn_module" and restore is not None and not self._awaits_values:
            return restore(build, chosen)
        return build(chosen.factory, dict(chosen.params))

    def build_nn_module(self, factory: Callable[..., nn.Module], params: Mapping[str, Any]) -> nn.Module:
        """Return the network."""
        module: nn.Module = self._call("nn_module", factory, (), params)
        return module

    def build_loss(self, factory: Callable[..., Any], params: Mapping[str, Any]) -> Any:
        """Return the loss function."""
        return self._call("loss", factory, (), params)

    def build_optimizer(self, factory: Callable[..., Optimizer], params: Mapping[str, Any]) -> Optimizer:
        """Return the optimizer of the parameters of network and loss that require grad, in their groups."""
        trainable = self.trainable_parameters()
        if not trainable:
            raise BuildError(
                "no parameter of nn_module or loss requires grad; unfreeze some or set optimizer to None"
            )
        options, rest = split_options(factory, params)
        if not options:
            optimizer: Optimizer = self._call("optimizer", factory, (trainable,), params)
            return optimizer
        from argus_core.model.parameter_groups import check_groups, group_parameters  # lazy: few need them

        wanted = {id(parameter) for parameter in trainable}
        named = {name: each for name, each in named_parameters(self).items() if id(each) in wanted}
        groups = group_parameters(self.get_nn_module(), named, options)
        check_groups(groups, lambda given, own: self._call("optimizer", factory, (given,), own), rest)
        optimizer = self._call("optimizer", factory, (groups,), rest)
        return optimizer

    def build_prediction_transform(self, factory: Callable[..., Any], params: Mapping[str, Any]) -> Any:
        """Return the function that converts the network's output to a prediction."""
        return self._call("prediction_transform", factory, (), params)

    def build_device(self, device: Any) -> list[torch.device]:
        """Return the devices to use, the output device first."""
        return resolve_devices(device)

    # The network and where it is.

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that require grad: the network's, then those that only the loss has.

        Those that step `unfreeze` trains later are among them. A `build_optimizer` with its own parameter
        groups must put each parameter into one.
        """
        held = self.held_parameters()
        named = named_parameters(self)
        return [each for name, each in named.items() if each.requires_grad or name in held]

    def held_parameters(self) -> set[str]:
        """Return the names of the parameters that a step strategy keeps frozen, and trains later."""
        return {name for strategy in self._composed.unfreezing() for name in strategy.held()}

    def get_nn_module(self) -> nn.Module:
        """Return the network without the wrapper for several devices."""
        module: nn.Module = self.nn_module
        return module.module if isinstance(module, nn.DataParallel) else module

    def get_device(self) -> torch.device | list[torch.device]:
        """Return the device, or the list of devices of `torch.nn.DataParallel`."""
        return self._devices[0] if len(self._devices) == 1 else list(self._devices)

    def set_device(self, device: Any) -> None:
        """Move network, loss and optimizer state to a device, or to a list of CUDA devices."""
        devices = self.build_device(device)
        if started_processes() > 1 and not isinstance(self.parallel, Single):
            from argus_core.parallel.group import own_device  # lazy: most runs have one process

            devices = own_device(devices, device)
        self.move_to(devices)

    def move_to(self, devices: torch.device | Sequence[torch.device]) -> None:
        """Move network, loss and optimizer state to devices that have been checked to exist."""
        self._devices = [devices] if isinstance(devices, torch.device) else list(devices)
        self.device = self._devices[0]
        module = self.get_nn_module()
        module = module if self._awaits_values else module.to(self.device)
        several = len(self._devices) > 1
        self.nn_module = nn.DataParallel(module, device_ids=self._devices) if several else module
        self.nn_module.training = module.training  # a new wrapper's is True
        if isinstance(self.loss, nn.Module):
            self.loss.to(self.device)
        if isinstance(self.optimizer, Optimizer):
            self.optimizer.load_state_dict(self.optimizer.state_dict())  # moves its state to the device
        self._updater = None

    # Inside.

    @property
    def _awaits_values(self) -> bool:
        """True until the engine has given values to a network that it builds without any."""
        return self.parallel.builds_on_meta and started_processes() > 1

    def _build_shared(self, part: str, chosen: Part) -> Any:
        """Return a built part; an engine that gives the network its values builds it in its own way."""
        if part != "nn_module" or not self._awaits_values:
            return self.build_part(part, chosen)
        from argus_core.model.sharing import build_network  # lazy: most runs have one process

        return build_network(self, lambda: self.build_part(part, chosen))

    def _share(self) -> None:
        """Let the processes of the run share network and loss, which are on their device."""
        from argus_core.model.sharing import share  # lazy: most runs have one process

        share(self, self.device, self._take_weights)
        self._updater = None

    def _take_weights(self) -> None:
        """Load the weights of the file that ``init_from`` names, unless a checkpoint's overwrite them."""
        value = self.params.get("init_from")
        if value is None:
            return
        # Few models read a file, and the packages that do would double the memory of all others.
        from argus_core.config.init_from import parse_init_from
        from argus_core.model.initial_weights import take_weights

        choice = parse_init_from(value)
        if "nn_module" in self._build_options.overwritten:
            return
        chosen = self.parts["nn_module"]
        assert chosen is not None
        check_param(chosen.label, "init_from", READS, value)
        self.initial_weights = take_weights(self.get_nn_module(), choice, chosen.label, self.parallel)
        self.logger.info("%s", self.initial_weights)

    def _freeze(self, patterns: Any) -> None:
        """Freeze the parameters that patterns match, except those that a step strategy trains later."""
        if patterns is None:
            return
        from argus_core.steps.parameter_patterns import freeze  # lazy: few models need it

        strategies = self._composed.unfreezing()
        freeze(self.get_nn_module(), patterns, lambda name: any(each.covers(name) for each in strategies))

    def _limited(self, part: str, label: str) -> AbstractContextManager[None]:
        """Return the context that limits a part's memory; a restored network has its own limit."""
        options = self._build_options
        restores = part == "nn_module" and options.restore_network is not None and not self._awaits_values
        return nullcontext() if options.limit is None or restores else options.limit(part, label)

    def _resolve(self, kind: str, name: str) -> registry.Component:
        return self._build_options.bindings.get((kind, name)) or registry.resolve(kind, name)

    def _call(
        self, part: str, factory: Callable[..., Any], args: tuple[Any, ...], params: Mapping[str, Any]
    ) -> Any:
        chosen = self.parts[part]
        assert chosen is not None
        return call_factory(chosen.label, factory, args, params)


def _check_built(part: str, chosen: Part, built: Any) -> None:
    """Raise for an invalid return value of a factory or of an overridden build method."""
    accepted, is_right = {
        "nn_module": ("a torch.nn.Module", isinstance(built, nn.Module)),
        "optimizer": ("a torch.optim.Optimizer", built is None or hasattr(built, "param_groups")),
    }.get(part, ("a callable", built is None or callable(built)))
    if not is_right:
        raise BuildError(
            f"{chosen.label} was built as {built!r}; its factory, or build_{part}, must return {accepted}"
        )
