"""Collective operations of a run's processes: votes, and gathering of data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from safetensors.torch import load, save
from torch import Tensor, distributed
from torch.utils._python_dispatch import _disable_current_modes

from argus_core.storage.encoding import decode, encode

if TYPE_CHECKING:  # few runs save folders
    from argus_core.storage.pieces import Group

__all__ = [
    "all_agree",
    "gather",
    "gather_to_first",
    "group_for",
    "is_first",
    "new_group",
    "process_count",
    "saving_group",
    "verdicts",
]

_LENGTH = 8  # bytes, before the JSON
_IS_AVAILABLE = distributed.is_available()  # in this build of torch

# By default group, the group that saves; weakly, since a destroyed group closes its connections once it is
# gone.
_beside: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def process_count() -> int:
    """Return how many processes the run has."""
    return distributed.get_world_size() if _is_initialized() else 1


def is_first() -> bool:
    """Return whether this process has rank 0, which writes the files of all processes."""
    return not _is_initialized() or distributed.get_rank() == 0


def all_agree(vote: bool | Tensor, device: torch.device) -> bool:
    """Return whether every process of the run votes yes; each process must call this.

    Args:
        vote: of this process, a bool or a 0-d bool tensor; reading a tensor waits for the device.
        device: of the collective operation.
    """
    if not _is_initialized():
        return bool(vote)
    verdict = torch.as_tensor(vote, device=device).int()
    distributed.all_reduce(verdict, distributed.ReduceOp.MIN)
    return bool(verdict)


def verdicts(votes: Sequence[bool | Tensor], device: torch.device) -> list[bool]:
    """Return for each vote whether every process votes yes, in one message; each process must call this.

    A vote that is a tensor holds the verdict of all processes afterwards.

    Args:
        votes: of this process, bools or 0-d bool tensors; reading a tensor waits for the device.
        device: of the collective operation.
    """
    if not _is_initialized():
        return [bool(vote) for vote in votes]
    found = torch.stack([torch.as_tensor(vote, device=device).int() for vote in votes])
    distributed.all_reduce(found, distributed.ReduceOp.MIN)
    for vote, verdict in zip(votes, found, strict=True):
        if isinstance(vote, Tensor):
            vote.copy_(verdict)
    return [bool(verdict) for verdict in found.tolist()]


def gather(value: Any, device: torch.device, group: distributed.ProcessGroup | None = None) -> list[Any]:
    """Return the values of all processes of the run, in the order of their ranks; each must call this.

    A value of any size and shapes takes two messages: its length and its bytes.

    Args:
        value: of this process, plain data with tensors.
        device: of the collective operation, and of the returned tensors.
        group: of all processes, if not the run's default one.
    """
    if process_count() == 1:
        return [value]
    padded, sizes = _padded(value, device, group)
    boxes = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(boxes, padded, group)
    return _unpadded(boxes, sizes, device)


def gather_to_first(
    value: Any, device: torch.device, group: distributed.ProcessGroup | None = None
) -> list[Any]:
    """Return the values of all processes in the first, and nothing in the others; see `gather`."""
    if process_count() == 1:
        return [value]
    padded, sizes = _padded(value, device, group)
    boxes = [torch.empty_like(padded) for _ in sizes] if is_first() else []
    distributed.gather(padded, boxes or None, 0, group)
    return _unpadded(boxes, sizes, device) if boxes else []


def group_for(path: Path) -> Group:
    """Return the processes that write a checkpoint to ``path``: all of the run's for a folder of shards."""
    from argus_core.storage.forms import is_folder
    from argus_core.storage.pieces import ALONE

    return saving_group() if is_folder(path) else ALONE


def new_group(timeout: float | None = None) -> distributed.ProcessGroup:
    """Return a new group of all processes on their CPUs; each must call this.

    Args:
        timeout: seconds that an operation may take; ``None`` for half an hour, in which a disk may write.

    Raises:
        RuntimeError: another process has ended.
    """
    with _disable_current_modes():  # which count operators, or limit their memory
        distributed.barrier()  # fails at once then; the opening of a group would wait for its timeout
    limit = None if timeout is None else timedelta(seconds=timeout)
    group: distributed.ProcessGroup = distributed.new_group(backend="gloo", timeout=limit)
    return group


def saving_group() -> Group:
    """Return the run's processes as those that save a folder of shards together.

    They talk through a process group of their own, on the CPU: a folder may be saved in the background,
    beside the collective operations of training. The first call makes the group, so each process must make
    it.
    """
    from argus_core.storage.pieces import ALONE, Group

    if process_count() == 1:
        return ALONE
    world = distributed.group.WORLD
    group = _beside.get(world)
    if group is None:  # the first call, or the first after a restart, which has another default group
        group = _beside[world] = new_group()
    device = torch.device("cpu")
    return Group(distributed.get_rank(), process_count(), lambda value: gather(dict(value), device, group))


def _padded(value: Any, device: torch.device, group: Any) -> tuple[Tensor, list[int]]:
    """Return the bytes of a value, as many as the longest of all processes has, and the lengths of all."""
    packed = torch.frombuffer(_pack(value), dtype=torch.uint8).to(device)
    length = torch.tensor([len(packed)], device=device)
    lengths = [torch.empty_like(length) for _ in range(process_count())]
    distributed.all_gather(lengths, length, group)
    sizes = torch.cat(lengths).tolist()
    return torch.nn.functional.pad(packed, (0, max(sizes) - len(packed))), sizes


def _unpadded(boxes: Sequence[Tensor], sizes: Sequence[int], device: torch.device) -> list[Any]:
    return [
        _unpack(box[:size].cpu().numpy().tobytes(), device) for box, size in zip(boxes, sizes, strict=True)
    ]


def _pack(value: Any) -> bytearray:
    tensors: dict[str, Tensor] = {}
    text = json.dumps(encode(value, "value", tensors)).encode()
    # Copies, since several tensors may share memory, as the parts of one batch do.
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    return bytearray(len(text).to_bytes(_LENGTH, "little") + text + save(copies))


def _unpack(packed: bytes, device: torch.device) -> Any:
    end = _LENGTH + int.from_bytes(packed[:_LENGTH], "little")
    tensors = {name: tensor.to(device) for name, tensor in load(packed[end:]).items()}
    return decode(json.loads(packed[_LENGTH:end]), tensors)


def _is_initialized() -> bool:
    return _IS_AVAILABLE and distributed.is_initialized()
