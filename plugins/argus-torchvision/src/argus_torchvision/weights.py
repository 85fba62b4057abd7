"""Pretrained weights: chosen by name, downloaded only if they are used.

With weights, torchvision builds another network than without: frozen normalisation, no auxiliary heads,
another epsilon. So loading a checkpoint must choose the weights again, but not download them. The builders of
torchvision ask the chosen weights for their state; here the answer may be the current state of the network.
"""

from __future__ import annotations

import logging
import threading
import typing
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torchvision.models import WeightsEnum

from argus_core import BuildError, ParamsError, initial_values_wanted
from argus_core.authors import near

__all__ = ["Construction", "Pretrained", "choose_weights", "enums_of"]

_PARAMETERS = ("weights", "weights_backbone")

_log = logging.getLogger(__name__)


def enums_of(builder: Callable[..., nn.Module], quantized: bool) -> dict[str, type[Any]]:
    """Return torchvision's enum of weights for each parameter of a builder.

    Args:
        builder: one of torchvision's builders.
        quantized: whether to use the quantized network, if both forms exist.
    """
    hints = typing.get_type_hints(builder)
    found: dict[str, type[Any]] = {}
    for parameter in _PARAMETERS:
        enums = _enums_in(hints.get(parameter))
        if len(enums) > 1:
            enums = [enum for enum in enums if ("Quantized" in enum.__name__) is quantized]
        if enums:
            found[parameter] = enums[0]
    return found


def choose_weights(label: str, parameter: str, enum: type[Any], name: Any) -> Any:
    """Return the member of ``enum`` that ``name`` chooses; ``None`` chooses none.

    Args:
        label: the name of the network in messages.
        parameter: the parameter with the name of the weights.
        enum: torchvision's enum of the available weights.
        name: ``"IMAGENET1K_V1"``, ``"DEFAULT"`` or ``"ResNet18_Weights.IMAGENET1K_V1"``.

    Raises:
        ParamsError: these weights do not exist.
    """
    if name is None:
        return None
    members = enum.__members__  # aliases too, such as DEFAULT
    short = name.removeprefix(f"{enum.__name__}.") if isinstance(name, str) else name
    if not isinstance(short, str) or short not in members:
        hint = near(short, members) if isinstance(short, str) else ""
        raise ParamsError(
            f"{label} has no {parameter} {name!r}{hint}; choose {', '.join(map(repr, members))}"
        )
    return members[short]


class Construction:
    """Tracks the module that this thread constructs in a ``with`` block."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._parents: dict[int, nn.Module] = {}
        self._children: dict[int, nn.Module] = {}

    def __enter__(self) -> Construction:
        self._handle = register_module_module_registration_hook(self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        self._handle.remove()
        self._parents.clear()
        self._children.clear()

    def _note(self, module: nn.Module, name: str, child: nn.Module | None) -> None:
        if threading.get_ident() == self._thread:
            self._parents.pop(id(module), None)  # to the end
            self._parents[id(module)] = module
            if child is not None:
                self._children[id(child)] = child

    def network(self) -> nn.Module:
        """Return the module that received the last child and is not a child itself."""
        roots = (module for key, module in self._parents.items() if key not in self._children)
        *_, network = roots
        return network


class Pretrained:
    """A stand-in for a member of an enum of weights.

    Args:
        member: the weights.
        classes: the number of classes of the network; ``None`` for that of the weights.
        construction: the tracker of the network under construction.
    """

    def __init__(self, member: Any, classes: int | None, construction: Construction) -> None:
        self._member = member
        self._classes = classes
        self._construction = construction

    @property
    def __class__(self) -> Any:  # builders accept only members of the enum
        return type(self._member)

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise TypeError("weights stay what they are")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._member, name)

    def __eq__(self, other: object) -> bool:
        return bool(self._member == other)

    def __hash__(self) -> int:
        return hash(self._member)

    @property
    def meta(self) -> dict[str, Any]:
        """The metadata of the weights, with the number of classes of the network."""
        meta: dict[str, Any] = dict(self._member.meta)
        if self._classes is not None and "categories" in meta:
            meta["categories"] = [str(number) for number in range(self._classes)]
        return meta

    def get_state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return a state to load: that of the weights, or the network's own if it will be overwritten.

        Raises:
            BuildError: the weights cannot be downloaded.
        """
        own = self._construction.network().state_dict()
        if not initial_values_wanted():
            return own
        try:
            state = dict(self._member.get_state_dict(*args, **kwargs))
        except (OSError, RuntimeError) as error:  # no connection, no such file, a wrong checksum
            raise BuildError(
                f"the weights {self._member!r} cannot be downloaded from {self._member.url}: "
                f"{type(error).__name__}: {error}; connect to the internet, or leave them out"
            ) from error
        return self._with_own_head(state, own)

    def _with_own_head(self, state: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``state`` with the network's own tensors for those with another number of classes."""
        theirs = len(self._member.meta.get("categories", ()))
        if self._classes is None or self._classes == theirs:
            return state
        heads = {
            name: own[name]
            for name, tensor in state.items()
            if name in own and _differ_by(tensor, own[name], theirs, self._classes)
        }
        _log.info("%s: %s keep their initial values", self._member, ", ".join(heads))
        return {**state, **heads}


def _differ_by(one: Tensor, other: Tensor, classes: int, other_classes: int) -> bool:
    """Return whether two tensors differ only in a first dimension that is the number of classes."""
    return (
        one.ndim == other.ndim > 0
        and one.shape[1:] == other.shape[1:]
        and one.shape[0] != other.shape[0]
        and one.shape[0] * other_classes == other.shape[0] * classes
    )


def _enums_in(hint: Any) -> list[type[Any]]:
    """Return the enums of weights in an annotation, such as ``Optional[ResNet18_Weights]``."""
    hints = (hint, *typing.get_args(hint))
    return [each for each in hints if isinstance(each, type) and issubclass(each, WeightsEnum)]
