"""The tensors of a checkpoint in a run of several processes: whole in the first, or pieces in each."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from argus_core.abstract_model import AbstractModel
from argus_core.checkpoint.abstract_saved import ShardReading
from argus_core.steps.parameters import named_parameters
from argus_core.storage.forms import is_folder
from argus_core.storage.pieces import Box, Piece
from argus_core.tensors.single_process import is_first_process

__all__ = ["Shards", "tensors_for"]

_Made = TypeVar("_Made")
_VALUES = "nn/"  # the prefix of the network's own tensors


def tensors_for(path: Path, model: AbstractModel, tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Return the tensors that this process writes to a path; ``None`` if it writes nothing.

    Every process of the run calls it.
    """
    if is_folder(path):
        return dict(_pieces(model, tensors))
    whole = _whole(model.parallel, tensors)
    return whole if is_first_process() else None


def _whole(engine: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors in full; every process of the run calls it, and only the first has all of them."""
    once = _Once(engine)
    found = {name: once.made(tensor, engine.whole) for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def _pieces(model: AbstractModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor | Piece]:
    """Return this process's pieces of shards, and the other tensors with the values of the first process.

    Every process of the run calls it.
    """
    engine = model.parallel
    once = _Once(engine)
    # Processes that hold whole parameters have made the same updates of them.
    equal = {f"nn/{name}" for name in named_parameters(model)}
    found: dict[str, Tensor | Piece] = {}
    for name, tensor in tensors.items():
        piece = engine.piece(tensor)
        is_equal = name in equal or name.startswith("optimizer/")
        if piece is tensor and not is_equal:
            piece = once.made(tensor, lambda each: _of_first(each, model.device))
        found[name] = piece
    return found


def _of_first(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a copy of the first process's tensor."""
    copied = tensor.detach().to(device, copy=True, memory_format=torch.contiguous_format)
    distributed.broadcast(copied.reshape(-1).view(torch.uint8), 0)  # not every dtype has messages
    return copied.to(tensor.device)


class Shards(ShardReading):
    """The shards of a model: parameters, their averages and the optimizer's state of them, by name."""

    def __init__(self, model: AbstractModel) -> None:
        self._engine = model.parallel
        self._parameters = {
            name: each
            for name, each in named_parameters(model).items()
            if each.numel() > 1 and isinstance(self._engine.piece(each), Piece)
        }

    def box_of(self, stored: str, shape: Sequence[int]) -> Box | None:
        parameter = self._parameter(stored)
        if parameter is None or tuple(parameter.shape) != tuple(shape):
            return None
        box: Box = self._engine.piece(parameter).box
        return box

    def shard_of(self, stored: str, part: Tensor) -> Tensor:
        parameter = self._parameter(stored)
        assert parameter is not None
        if stored.startswith(_VALUES):  # at once into its place, lest the process hold all parts twice
            with torch.no_grad():
                self._engine.local(parameter).copy_(part)
            return parameter.detach()
        shard: Tensor = self._engine.shard(parameter, part)
        return shard

    def _parameter(self, stored: str) -> Tensor | None:
        """Return the parameter whose name is a part of ``optimizer/<name>/exp_avg``, for example."""
        parts = stored.split("/")[1:]
        return next((self._parameters[each] for each in parts if each in self._parameters), None)


class _Once:
    """Values that are made once for all names of one tensor."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._seen: dict[Hashable, Any] = {}

    def made(self, tensor: Tensor, make: Callable[[Tensor], _Made]) -> _Made:
        own = self._engine.local(tensor)
        key = own.untyped_storage()._cdata, own.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype
        if key not in self._seen:
            self._seen[key] = make(tensor)
        made: _Made = self._seen[key]
        return made
