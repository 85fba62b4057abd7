"""What the processes of one run decide together, and what they tell each other."""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, distributed

from argus_core.storage.encoding import decode, encode

__all__ = ["all_agree", "gather", "is_first", "process_count"]

_LENGTH = 8  # bytes, in front of the JSON
_IS_AVAILABLE = distributed.is_available()  # in this build of torch


def process_count() -> int:
    """Return how many processes the run has."""
    return distributed.get_world_size() if _is_initialized() else 1


def is_first() -> bool:
    """Return whether this is the process that writes what one of them writes for all."""
    return not _is_initialized() or distributed.get_rank() == 0


def all_agree(vote: bool | Tensor, device: torch.device) -> bool:
    """Return whether every process of the run votes yes; each must ask.

    Args:
        vote: of this process, a bool or a 0-d bool tensor, which is waited for.
        device: where the processes' votes meet.
    """
    if not _is_initialized():
        return bool(vote)
    verdict = torch.as_tensor(vote, device=device).int()
    distributed.all_reduce(verdict, distributed.ReduceOp.MIN)
    return bool(verdict)


def gather(value: Any, device: torch.device) -> list[Any]:
    """Return what every process of the run gave, in the order of their ranks; each must ask.

    However much it is, and of whatever shapes, it takes two messages: how long it is, and what it is.

    Args:
        value: of this process, plain data with tensors.
        device: where the messages meet, and where the tensors come back.
    """
    if process_count() == 1:
        return [value]
    packed = torch.frombuffer(_pack(value), dtype=torch.uint8).to(device)
    length = torch.tensor([len(packed)], device=device)
    lengths = [torch.empty_like(length) for _ in range(process_count())]
    distributed.all_gather(lengths, length)
    sizes = torch.cat(lengths).tolist()
    padded = torch.nn.functional.pad(packed, (0, max(sizes) - len(packed)))
    boxes = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(boxes, padded)
    return [
        _unpack(box[:size].cpu().numpy().tobytes(), device) for box, size in zip(boxes, sizes, strict=True)
    ]


def _pack(value: Any) -> bytearray:
    tensors: dict[str, Tensor] = {}
    text = json.dumps(encode(value, "value", tensors)).encode()
    # Copies, since several may share memory, as the parts of one batch do.
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    return bytearray(len(text).to_bytes(_LENGTH, "little") + text + save(copies))


def _unpack(packed: bytes, device: torch.device) -> Any:
    end = _LENGTH + int.from_bytes(packed[:_LENGTH], "little")
    tensors = {name: tensor.to(device) for name, tensor in load(packed[end:]).items()}
    return decode(json.loads(packed[_LENGTH:end]), tensors)


def _is_initialized() -> bool:
    return _IS_AVAILABLE and distributed.is_initialized()
