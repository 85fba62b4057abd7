"""Values that are computed in the middle of an epoch, for callbacks that write or follow them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

__all__ = ["MidwayRecord", "now"]


@dataclass(frozen=True)
class MidwayRecord:
    """Values that were computed after an update, in the middle of an epoch or after the last one.

    Attributes:
        phase: ``"val"`` of a validation, ``"train"`` of the updates of the epoch so far.
        epoch: counts from 0.
        global_step: updates since the run began.
        time: of the record, ISO 8601, UTC.
        lr: the learning rate, a list for several parameter groups, ``None`` without an optimizer.
        metrics: the values by name.
        rates: numbers about the process rather than the model, such as ``updates_per_second``.
    """

    phase: str
    epoch: int
    global_step: int
    time: str
    lr: float | list[float] | None
    metrics: Mapping[str, float]
    rates: Mapping[str, float] = field(default_factory=dict)


def now() -> str:
    """Return the present time, ISO 8601, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
