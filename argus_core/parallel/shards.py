"""Shards of tensors: the part of this process, the whole from all parts, and parts of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor, Shard
from torch.utils._python_dispatch import _disable_current_modes

from argus_core.storage.pieces import Piece
from argus_core.tensors.batch import deep_map
from argus_core.tensors.listing import tensors_in

__all__ = [
    "gathered",
    "joined_rows",
    "local",
    "messages",
    "not_a_view",
    "own_rows",
    "part_of",
    "piece_of",
    "rows_of",
    "shard_of",
]


@contextmanager
def messages() -> Iterator[None]:
    """Let processes talk while operators are intercepted, as the memory of a part is limited or counted."""
    with _disable_current_modes():
        yield


def local(tensor: Tensor) -> Tensor:
    """Return the part of this process, which shares memory with the shard, or a plain tensor itself."""
    if not isinstance(tensor, DTensor):
        return tensor
    part: Tensor = cast(DTensor, tensor.detach()).to_local()
    return part


def rows_of(length: int, number: int, count: int) -> tuple[int, int]:
    """Return the first row of a process's part, and the one after its last, as `torch.chunk` splits."""
    step = -(-length // count)
    return min(number * step, length), min((number + 1) * step, length)


def gathered(tensor: DTensor) -> Tensor | None:
    """Return the whole tensor on the CPU in the first process, and ``None`` in the others; each calls it."""
    rank, count = distributed.get_rank(), distributed.get_world_size()
    if tuple(tensor.placements) != (Shard(0),):
        full = cast(DTensor, tensor.detach()).full_tensor()
        return full.cpu() if rank == 0 else None
    own = local(tensor).contiguous().reshape(-1).view(torch.uint8)  # not every dtype has messages
    size = tensor.numel() * tensor.element_size()
    if not size:
        return torch.empty(tensor.shape, dtype=tensor.dtype) if rank == 0 else None
    step = -(-tensor.shape[0] // count) * (size // tensor.shape[0])
    sent = own if len(own) == step else torch.cat([own, own.new_zeros(step - len(own))])
    if rank:
        distributed.gather(sent)
        return None
    # One allocation, and messages into it: small ones beside it would stay in the process's heap.
    joined = own.new_empty(step * count)
    distributed.gather(sent, [*torch.split(joined, step)])
    return joined[:size].view(tensor.dtype).view(tensor.shape).cpu()


def piece_of(tensor: DTensor) -> Tensor | Piece:
    """Return the part of this process and its place, or a tensor that is whole in each process."""
    if tuple(tensor.placements) != (Shard(0),):
        return cast(DTensor, tensor.detach()).full_tensor()
    mesh: Any = tensor.device_mesh
    first, _ = rows_of(tensor.shape[0], mesh.get_local_rank(), mesh.size())
    return Piece(local(tensor), tuple(tensor.shape), (first, *[0] * (tensor.ndim - 1)))


def part_of(value: Tensor, target: DTensor) -> DTensor:
    """Return the shard of a full tensor that has the place of ``target``, without the rest of its memory."""
    mesh: Any = target.device_mesh
    first, last = rows_of(value.shape[0], mesh.get_local_rank(), mesh.size())
    part = value[first:last].to(local(target).device, copy=True, memory_format=torch.contiguous_format)
    return shard_of(part, target)


def shard_of(part: Tensor, target: DTensor) -> DTensor:
    """Return the shard that has the form of ``target``, and this part in this process."""
    own = part.to(local(target).device)
    return DTensor.from_local(
        own,
        target.device_mesh,
        target.placements,
        run_check=False,
        shape=target.shape,
        stride=target.stride(),
    )


def own_rows(value: Tensor, group: Any) -> Tensor:
    """Return a copy of the rows of this process."""
    length = value.shape[0] if value.ndim else 1
    first, last = rows_of(length, distributed.get_rank(group), distributed.get_world_size(group))
    return value.reshape(length, *value.shape[1:])[first:last].clone(memory_format=torch.contiguous_format)


def joined_rows(rows: Tensor, shape: Sequence[int], group: Any) -> Tensor:
    """Return the whole of a tensor from the rows of all processes, each of which calls it."""
    count = distributed.get_world_size(group)
    step = -(-shape[0] // count)
    sent = rows.new_zeros((step, *shape[1:]))
    sent[: len(rows)] = rows
    as_bytes = sent.view(-1).view(torch.uint8)
    boxes = [torch.empty_like(as_bytes) for _ in range(count)]
    with messages():
        distributed.all_gather(boxes, as_bytes, group)
    whole = torch.cat(boxes).view(rows.dtype).view(step * count, *shape[1:])
    return whole[: shape[0]].clone()


def not_a_view(module: nn.Module, args: Any, output: Any) -> Any:
    """Return an output without views: one that changes in place would lose torch's hook for backward."""
    if not torch.is_grad_enabled() or not any(each._is_view() for each in tensors_in(output)):
        return output
    return deep_map(output, lambda each: each.clone() if each._is_view() else each)
