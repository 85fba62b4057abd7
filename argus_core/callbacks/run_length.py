"""The length of a run, and parts of it such as "5%" or "3ep", for what takes its own length from it.

Cadences are in ``cadence.py``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from argus_core.callbacks.cadence import Cadence

__all__ = ["UNKNOWN", "RunLength", "Share", "is_share", "parse_share"]

_FORM = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)\s*(%|ep|up)")
_WHOLE = 100


@dataclass(frozen=True)
class Share:
    """A part of a run: a number of epochs (``"ep"``) or updates (``"up"``), or per cent (``"%"``)."""

    count: float
    unit: str


@dataclass(frozen=True)
class RunLength:
    """The length of a run; ``None`` where it is not known.

    Attributes:
        epochs: that it makes, or begins.
        updates: that move the weights, unless some are skipped.
        per_epoch: updates in an epoch.
        reason: why a part is not known, and what to give; ends a sentence.
    """

    epochs: int | None
    updates: int | None
    per_epoch: int | None
    reason: str = "give num_epochs or num_updates, which say how long the run is"

    @classmethod
    def of(cls, num_epochs: int | None, num_updates: int | None, per_epoch: int | None) -> RunLength:
        """Return the length of a run that ends at the first of its bounds."""
        by_epochs = None if num_epochs is None or per_epoch is None else num_epochs * per_epoch
        updates = min((each for each in (by_epochs, num_updates) if each is not None), default=None)
        needed = None if num_updates is None or per_epoch is None else math.ceil(num_updates / per_epoch)
        epochs = min((each for each in (num_epochs, needed) if each is not None), default=None)
        if num_epochs is None and num_updates is None:
            return cls(None, None, per_epoch, "max_time alone does not say how many; give num_epochs as well")
        return cls(epochs, updates, per_epoch, "the loader has no length; give num_updates")

    def after(self, epochs: int, updates: int) -> RunLength:
        """Return the rest of the run after these epochs and updates."""
        left = [
            None if whole is None else max(whole - done, 1)
            for whole, done in ((self.epochs, epochs), (self.updates, updates))
        ]
        return RunLength(left[0], left[1], self.per_epoch, self.reason)

    def steps(self, cadence: Cadence) -> int | None:
        """Return how often a cadence is due in the run."""
        whole = {"ep": self.epochs, "up": self.updates}.get(cadence.unit)
        return None if whole is None else max(whole // int(cadence.count), 1)

    def steps_in(self, text: str, cadence: Cadence) -> int | None:
        """Return the number of steps of a cadence in a part of the run: ``"5%"``, ``"3ep"``, ``"500up"``.

        ``None`` where it is not known, as for updates of a cadence that counts epochs.
        """
        share = parse_share(text)
        assert share is not None
        count, unit = share.count, share.unit
        whole = self.steps(cadence) if unit == "%" else None
        if whole is not None:
            return round(whole * count / _WHOLE)
        if unit == "ep" and cadence.unit == "up" and self.per_epoch is not None:
            count, unit = count * self.per_epoch, "up"
        return round(count / cadence.count) if unit == cadence.unit else None


UNKNOWN = RunLength(None, None, None)
"""The length where there is no run."""


def parse_share(value: Any) -> Share | None:
    """Return the part of a run that a value names: ``"5%"``, ``"3ep"`` or ``"500up"``; ``None`` if none."""
    match = _FORM.fullmatch(value.strip()) if isinstance(value, str) else None
    return None if match is None else Share(float(match[1]), match[2])


def is_share(value: Any) -> bool:
    """Return whether a value is a part of a run."""
    return parse_share(value) is not None
