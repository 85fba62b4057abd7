"""Building the parts of a checkpoint within a memory limit that depends on the size of the file.

The network is built without the initial values that its state overwrites, and then its state is loaded.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from argus_core.checkpoint.abstract_saved import AbstractSaved
from argus_core.checkpoint.module_state import check_module_forms, put_module_state
from argus_core.errors import UnsafeCheckpointError
from argus_core.model.memory import Limit, NoRoom
from argus_core.model.model import Model
from argus_core.model.skipped_init import build_without
from argus_core.registry.part import Part

__all__ = ["Allowance", "leaves_network_alone", "restore_network"]

# A part may take more memory than its file: computed tables that are not stored, temporary copies.
_TIMES = 2
_BESIDE = 128 * 2**20

# The methods of a model class that run between building its network and the end of __init__.
_AFTER_THE_NETWORK = (
    "__init__ __setattr__ build_device build_loss build_optimizer build_order build_part "
    "build_prediction_transform get_nn_module move_to set_device set_part"
).split()

# torch's own modules overwrite all of their state when they load one.
_TORCH = "torch.nn."


def leaves_network_alone(cls: type[Model]) -> bool:
    """Return whether a class overrides no method that runs between building and loading its network.

    A class that adds layers to its network in its ``__init__``, for example, must load the state after that.
    """
    return all(getattr(cls, name) is getattr(Model, name) for name in _AFTER_THE_NETWORK)


class Allowance:
    """The limits of the memory of parts that are built with parameters from a file.

    Args:
        path: the file, for messages.
        size: of the file in bytes.
        exempt: the parts that the caller has chosen, which have no limit.
    """

    def __init__(self, path: str | Path, size: int, exempt: Container[str] = ()) -> None:
        self._path = path
        self._size = size
        self._exempt = exempt

    def most(self, part: str) -> float:
        """Return the limit for the tensors of a part, in bytes."""
        return math.inf if part in self._exempt else _TIMES * self._size + _BESIDE

    @contextmanager
    def keep(self, part: str, label: str) -> Iterator[None]:
        """Limit the memory of a part that is built inside the context.

        Raises:
            UnsafeCheckpointError: the part would exceed the limit; it was stopped before the allocation.
        """
        most = self.most(part)
        if most == math.inf:
            yield
            return
        try:
            with Limit(most):
                yield
        except NoRoom as error:
            raise UnsafeCheckpointError(
                f"{self._path}: {label} would take more than {most:,} bytes to build with the file's "
                f"parameters, and the file has {self._size:,}; do not trust it, or pass "
                f"{part}=(name, {{params}}) to load_model"
            ) from error


def restore_network(saved: AbstractSaved, allowance: Allowance, build: Callable[..., Any], part: Part) -> Any:
    """Build the network of ``part`` by ``build``, and load its saved state.

    The result equals a network that is built normally and then loaded. Where the state overwrites all random
    initial values, none are drawn, and the state of torch's generators does not change.

    Raises:
        StateMismatchError: the state does not fit the network.
        CorruptCheckpointError: the state's bytes differ from their checksums.
        UnsafeCheckpointError: the network would exceed its memory limit.
    """
    params = copy.deepcopy(dict(part.params))  # a constructor may modify its arguments
    found = build_without(lambda: build(part.factory, dict(part.params)), allowance.most("nn_module"))
    module = found[0] if found else None
    places = _loaded(module)
    if found is None or not found[1].lies_within(places.values()):
        with allowance.keep("nn_module", part.label):
            module = build(part.factory, params)
        places = _loaded(module)
    if isinstance(module, nn.Module):  # else the model raises
        _put_state(saved, _network(module), places, part.label)
    return module


def _put_state(saved: AbstractSaved, network: nn.Module, places: Mapping[str, Tensor], what: str) -> None:
    check_module_forms(network, saved.forms("nn_module"), what)
    state = saved.read("nn_module", _unshared(places))
    read_in_place = places.keys() == state.keys() and all(state[name] is places[name] for name in places)
    if not read_in_place or _has_hooks(network):
        put_module_state(network, state, what)


def _network(module: nn.Module) -> nn.Module:
    network: nn.Module = module.module if isinstance(module, nn.DataParallel) else module
    return network


def _loaded(module: Any) -> dict[str, Tensor]:
    """Return the tensors that loading a fitting state overwrites, by name; empty if unknown."""
    if not isinstance(module, nn.Module) or torch.__future__.get_swap_module_params_on_conversion():
        return {}
    loaded: dict[str, Tensor] = {}
    for prefix, each in _network(module).named_modules(remove_duplicate=False):
        if not _loads_plainly(each):
            return {}
        loaded.update(_own_state(each, prefix))
    return loaded


def _own_state(module: nn.Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the module's own tensors of its state dict, without those of submodules."""
    kept = {
        name: buffer
        for name, buffer in module._buffers.items()
        if name not in module._non_persistent_buffers_set
    }
    for name, tensor in (*module._parameters.items(), *kept.items()):
        if tensor is not None and not torch.nn.parameter.is_lazy(tensor):
            yield f"{prefix}.{name}".lstrip("."), tensor


def _loads_plainly(module: nn.Module) -> bool:
    """Return whether a module loads its state by plain copies, without custom code or hooks."""
    load, kind = nn.Module, type(module)
    steps = [kind._load_from_state_dict, *map(_hook, module._load_state_dict_pre_hooks.values())]
    return (
        kind.load_state_dict is load.load_state_dict
        and kind.set_extra_state is load.set_extra_state
        and kind.get_extra_state is load.get_extra_state
        and not {"load_state_dict", "_load_from_state_dict"} & vars(module).keys()
        and all(str(getattr(step, "__module__", "")).startswith(_TORCH) for step in steps)
    )


def _has_hooks(network: nn.Module) -> bool:
    return any(
        module._load_state_dict_pre_hooks or module._load_state_dict_post_hooks
        for module in network.modules()
    )


def _hook(wrapped: Any) -> Any:
    return getattr(wrapped, "hook", wrapped)


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that share no memory with a tensor of another name."""
    memory = {name: tensor.untyped_storage()._cdata for name, tensor in tensors.items()}
    uses = Counter(memory.values())
    return {name: tensor for name, tensor in tensors.items() if uses[memory[name]] == 1}
