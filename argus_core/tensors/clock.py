"""The clock by which all processes of a run decide alike, such as whether a checkpoint in minutes is due."""

from __future__ import annotations

import time

__all__ = ["set_shared_time", "shared_time"]

_shared: list[float] = []  # of the first process, as of the last exchange, in a run of several


def shared_time() -> float:
    """Return a time in seconds, for differences only: of the first process in a run of several."""
    return _shared[0] if _shared else time.monotonic()


def set_shared_time(seconds: float | None) -> None:
    """Set the time of the first process; ``None`` gives each process its own clock again."""
    _shared[:] = [] if seconds is None else [seconds]
