"""The slices of a global batch: each process reads one; their sizes differ by at most one."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Share", "Silent", "slice_of"]


class Share(NamedTuple):
    """The share of one process: its rank, and the number of processes."""

    rank: int
    processes: int


class Silent(NamedTuple):
    """A copied sample for a process whose slice is empty; it counts nothing."""

    batch: Any


def slice_of(samples: int, share: Share) -> tuple[int, int, bool]:
    """Return where a process's slice begins and ends, and whether it is a copied sample, the last."""
    size, more = divmod(samples, share.processes)
    start = share.rank * size + min(share.rank, more)
    stop = start + size + (share.rank < more)
    return (start, stop, False) if stop > start else (max(samples - 1, 0), samples, True)
