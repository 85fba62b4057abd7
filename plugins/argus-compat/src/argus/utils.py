"""Functions that scripts import: nested batches, averages, devices."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch

import argus_core
from argus.types import Devices
from argus_core.authors import deep_map

__all__ = [
    "AverageMeter",
    "Default",
    "Identity",
    "check_pickleble",
    "deep_chunk",
    "deep_detach",
    "deep_to",
    "default",
    "device_to_str",
    "get_device_indices",
    "identity",
    "inheritors",
]

T = TypeVar("T")


class Default:
    """The default of an omitted argument."""

    def __repr__(self) -> str:
        return "default"


default = Default()


def identity(x: T) -> T:
    """Return ``x``."""
    return x


class Identity:
    """Returns a prediction unchanged."""

    def __call__(self, x: T) -> T:
        """Return ``x``."""
        return x

    def __repr__(self) -> str:
        return "Identity()"


class AverageMeter:
    """The mean of all values so far, by Welford's method.

    Attributes:
        average: 0 before the first update.
        count: the number of values.
    """

    average: float
    count: int

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all values."""
        self.average = 0
        self.count = 0

    def update(self, value: Any, n: int = 1) -> None:
        """Add a value, or the sum of ``n`` values."""
        self.count += n
        self.average += (value - n * self.average) / self.count


def deep_to(input: Any, *args: Any, **kwargs: Any) -> Any:
    """Return ``input`` with ``.to(*args, **kwargs)`` applied to everything in it that has ``to``."""
    return argus_core.deep_to(input, *args, **kwargs)


def deep_detach(input: Any) -> Any:
    """Return ``input`` with every tensor detached from the graph."""
    return argus_core.deep_detach(input)


def deep_chunk(input: Any, chunks: int, dim: int = 0) -> list[Any]:
    """Return ``input`` in at most ``chunks`` parts, with every tensor in it cut as `torch.chunk` cuts.

    Containers keep their type, and every part contains the values that are not tensors. The number of parts
    is that of the tensor with the fewest chunks.
    """
    counts = [len(tensor.chunk(chunks, dim)) for tensor in _tensors(input)]
    return [_part(input, chunks, dim, index) for index in range(min(counts, default=chunks))]


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    found: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor)
        return tensor

    deep_map(value, keep)
    return iter(found)


def _part(value: Any, chunks: int, dim: int, index: int) -> Any:
    return deep_map(value, lambda tensor: tensor.chunk(chunks, dim)[index])


def device_to_str(device: Devices) -> str | list[str]:
    """Return the name of a device, or the names of several."""
    return list(map(str, device)) if isinstance(device, list | tuple) else str(device)


def get_device_indices(devices: Sequence[torch.device]) -> list[int]:
    """Return the indices of CUDA devices.

    Raises:
        ValueError: a device is not a CUDA device.
    """
    for device in devices:
        if device.type != "cuda":
            raise ValueError(f"device {device} is not a CUDA device; give CUDA devices only")
    return [torch.cuda.current_device() if device.index is None else device.index for device in devices]


def inheritors(cls: type[T]) -> set[type[T]]:
    """Return all direct and indirect subclasses of a class."""
    direct = set(cls.__subclasses__())
    return direct.union(*[inheritors(each) for each in direct])


def check_pickleble(obj: object) -> None:
    """Check that `torch.save` can write ``obj``; raises its exception otherwise."""
    torch.save(obj, io.BytesIO())
