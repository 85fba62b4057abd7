"""The process group of a run: opened from torchrun's environment, and closed as the process ends."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from contextlib import suppress
from datetime import timedelta
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from argus_core.errors import BuildError, ConfigError
from argus_core.parallel.shared_memory import close_board, open_board
from argus_core.tensors.processes import new_group, process_count
from argus_core.tensors.single_process import started_processes

__all__ = [
    "add_user",
    "close_group",
    "control_group",
    "launcher_store",
    "local_rank",
    "open_group",
    "own_device",
    "release_groups",
    "shared_board",
    "shared_store",
]

_BACKENDS = {"cuda": "nccl", "xpu": "xccl"}
_store: list[Any] = []  # of the group that this module opened
_control: dict[float, tuple[Any, Any]] = {}  # by timeout: the group of all processes, and its control group
_board: list[Any] = []  # the group of all processes with a timeout, and their board
_users: WeakValueDictionary[int, Any] = WeakValueDictionary()  # engines, which refer to groups
_opened_by: list[int] = []  # the process that opened the group, if this module did


def local_rank() -> int:
    """Return the number of this process on its host."""
    return _number("LOCAL_RANK", distributed.get_rank() if process_count() > 1 else 0)


def open_group(device: torch.device, timeout: float) -> None:
    """Open the process group, unless there is one.

    Its store gets the number of restarts as a prefix: after a restart, torchrun gives the processes the
    store of those before them, whose keys are still there.

    Args:
        device: of the collective operations; it decides the backend.
        timeout: seconds that an operation may take.

    Raises:
        ConfigError: the environment is incomplete, the address is taken, or a process is missing.
    """
    if distributed.is_initialized():
        return
    count, limit = started_processes(), timedelta(seconds=timeout)
    backend = _BACKENDS.get(device.type, "gloo")
    try:
        store, rank, count = next(rendezvous("env://", timeout=limit))
        prefix = f"argus/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        base, store = store, PrefixStore(prefix, store)
        distributed.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=limit)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        place = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
        raise ConfigError(
            f"process {os.environ.get('RANK', '?')} of {count} cannot meet the others at {place} within "
            f"{timeout:g} s: "
            f"{reason}; start all of them with torchrun or argus train --nproc-per-node, with a free port"
        ) from error
    _opened_by[:], _store[:] = [os.getpid()], [store, base]
    atexit.register(close_group)


def control_group(timeout: float) -> Any:
    """Return the group of all processes on their CPUs, for small messages beside an engine's own operations.

    Args:
        timeout: seconds that an operation may take.
    """
    world = distributed.group.WORLD
    if timeout not in _control or _control[timeout][0] is not world:
        if any(known is not world for known, _ in _control.values()):
            _control.clear()  # of a group that is gone, whose connections would stay open
        _control[timeout] = world, new_group(timeout)
    return _control[timeout][1]


def add_user(engine: Any) -> None:
    """Note an engine that refers to groups until its method ``leave`` is called."""
    _users[id(engine)] = engine


def shared_board(timeout: float) -> Any:
    """Return the board of all processes, ``None`` if they are on several hosts; see `control_group`."""
    key = distributed.group.WORLD, timeout
    if _board[:1] != [key]:
        _board[:] = [key, open_board(control_group(timeout), timeout)]
    return _board[1]


def release_groups() -> None:
    """Destroy all groups of this process: the others' operations fail once nothing refers to them."""
    for engine in [*_users.values()]:
        with suppress(Exception):
            engine.leave()
    _control.clear()
    _board.clear()
    close_board()
    with suppress(Exception):
        if distributed.is_initialized():
            distributed.destroy_process_group()
    gc.collect()


def shared_store() -> Any:
    """Return the store of keys and values that the processes share."""
    if _store:
        return _store[0]
    return distributed.distributed_c10d._get_default_store()


def launcher_store() -> Any:
    """Return the launcher's store, whose keys survive a restart; ``None`` if the group was open before."""
    return _store[1] if _store else None


def close_group(failed: bool = False) -> None:
    """Close the process group that `open_group` opened in this process.

    Args:
        failed: whether to leave at once; else the process waits for the others, which may not be connected
            yet.
    """
    if _opened_by != [os.getpid()] or not distributed.is_initialized():
        return
    _opened_by.clear()
    failed = failed or getattr(sys, "last_exc", getattr(sys, "last_value", None)) is not None
    with suppress(Exception):
        if not failed:
            distributed.barrier()
    release_groups()


def own_device(devices: list[torch.device], given: Any) -> list[torch.device]:
    """Return the device of this process: of several accelerators on a host, the one with its number.

    Args:
        devices: as `resolve_devices` returned them.
        given: by the user.

    Raises:
        BuildError: a list of devices, or fewer accelerators than processes.
    """
    if len(devices) > 1:
        raise BuildError(
            f"device is {given!r}, a list for torch.nn.DataParallel, in one of {started_processes()} "
            "processes; give one device, of which each process takes its own"
        )
    device = devices[0]
    if device.type in ("cpu", "meta", "mps") or device.index is not None:
        if device.index is not None and _number("LOCAL_WORLD_SIZE", 1) > 1:
            raise BuildError(
                f"device is {given!r} in each of {_number('LOCAL_WORLD_SIZE', 1)} processes of this host; "
                f"give {device.type!r}, of which each process takes its own"
            )
        return devices
    module = getattr(torch, device.type)
    if local_rank() >= module.device_count():
        raise BuildError(
            f"this host has {module.device_count()} {device.type} devices, and process {local_rank()} of "
            f"{_number('LOCAL_WORLD_SIZE', 1)} has none; start at most one process for each device"
        )
    module.set_device(local_rank())
    return [torch.device(device.type, local_rank())]


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isascii() and text.isdigit() else default
