"""What the processes of one run decide together."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

__all__ = ["all_agree"]


def all_agree(vote: bool | Tensor, device: torch.device) -> bool:
    """Return whether every process of the run votes yes; each must ask.

    Args:
        vote: of this process, a bool or a 0-d bool tensor, which is waited for.
        device: where the processes' votes meet.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return bool(vote)
    verdict = torch.as_tensor(vote, device=device).int()
    distributed.all_reduce(verdict, distributed.ReduceOp.MIN)
    return bool(verdict)
