"""The clock by which all processes of a run decide alike, such as whether a checkpoint in minutes is due."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["set_shared_time", "shared_time"]

# Of the first process, as of the last exchange or update, in a run of several; or a function that returns it.
_shared: list[float | Callable[[], float]] = []


def shared_time() -> float:
    """Return a time in seconds, for differences only: of the first process in a run of several."""
    if not _shared:
        return time.monotonic()
    found = _shared[0]
    return found if isinstance(found, float) else found()


def set_shared_time(seconds: float | Callable[[], float] | None) -> None:
    """Set the time of the first process; ``None`` gives each process its own clock again."""
    _shared[:] = [] if seconds is None else [seconds]
