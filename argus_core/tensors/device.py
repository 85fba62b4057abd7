"""Resolution of a user's device specification to `torch.device` objects of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from argus_core.errors import BuildError, SpecError, near

__all__ = ["DeviceSpec", "check_has_values", "ran_out_of_memory", "resolve_devices", "widest_float"]

DeviceSpec = str | int | torch.device | Sequence[str | int | torch.device]

_PREFERENCE = ("cuda", "xpu", "mps")
_ALWAYS_THERE = ("cpu", "meta")


def resolve_devices(device: Any) -> list[torch.device]:
    """Return the devices that ``device`` specifies, the output device first.

    Args:
        device: ``"auto"`` (cuda, else xpu, else mps, else cpu), a device string, a `torch.device`,
            an index, or a list of these for `torch.nn.DataParallel`.

    Raises:
        SpecError: it is not a device, or an empty list.
        BuildError: this machine does not have the device.
    """
    if isinstance(device, list | tuple):
        if not device:
            raise SpecError("params['device'] is an empty list; give a device such as 'auto' or 'cuda:0'")
        devices = [_resolve_one(item) for item in device]
        if len(devices) > 1:
            _check_data_parallel(devices)
        return devices
    return [_resolve_one(device)]


def check_has_values(device: torch.device, purpose: str) -> None:
    """Check that tensors on the device of a model have values.

    Raises:
        BuildError: it is torch's meta device.
    """
    if device.type == "meta":
        raise BuildError(
            f"device is 'meta', on which tensors have no values, so the model cannot {purpose}; "
            f"choose from {_available()} or 'auto'"
        )


def ran_out_of_memory(error: Exception) -> bool:
    """Return whether an error means that memory is full; a CPU's allocator has no error class of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def widest_float(device: torch.device) -> torch.dtype:
    """Return the dtype for sums of many small numbers: float64, or float32 on mps, which lacks float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def _resolve_one(device: Any) -> torch.device:
    if isinstance(device, str) and device == "auto":  # comparing an array does not give one truth value
        return next((torch.device(kind) for kind in _PREFERENCE if _count(kind)), torch.device("cpu"))
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        known = "cuda" if str(device) == "gpu" else str(device)
        raise SpecError(
            f"unknown device {device!r}; give 'auto', 'cpu', 'cuda', 'cuda:0' or another torch device"
            f"{near(known, ['auto', 'cpu', *_PREFERENCE])}"
        ) from error
    is_there = resolved.type in _ALWAYS_THERE or 0 <= (resolved.index or 0) < _count(resolved.type)
    if not is_there or _is_wrapped(device, resolved):
        raise BuildError(
            f"device {str(device)!r} is not on this machine{_without_cuda(resolved)}; choose from "
            f"{_available()} or 'auto'"
        )
    return resolved


def _without_cuda(device: torch.device) -> str:
    built_for_cpu = device.type == "cuda" and torch.version.cuda is None and torch.version.hip is None
    return " (this torch is built without CUDA)" if built_for_cpu else ""


def _is_wrapped(device: Any, resolved: torch.device) -> bool:
    """Return whether torch has wrapped the index of a device: it makes 0 of 256, and -1 of 255."""
    number = device.partition(":")[2] if isinstance(device, str) else device if type(device) is int else ""
    return number != "" and int(number) != resolved.index


def _check_data_parallel(devices: list[torch.device]) -> None:
    indices = {device.index or 0 for device in devices}  # 'cuda' means 'cuda:0'
    if any(device.type != "cuda" for device in devices) or len(indices) < len(devices):
        raise BuildError(
            f"a list of devices means torch.nn.DataParallel, which needs different CUDA devices, not "
            f"{[str(device) for device in devices]}; give one device"
        )


def _count(kind: str) -> int:
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    module = getattr(torch, kind, None)
    return int(module.device_count()) if module is not None and hasattr(module, "device_count") else 0


def _available() -> str:
    found = ["cpu"]
    for kind in _PREFERENCE:
        found += [f"{kind}:{index}" for index in range(_count(kind))]
    return ", ".join(map(repr, found))
