"""Gradient accumulation: several loader batches make one update."""

from __future__ import annotations

from argus_core.errors import ParamsError
from argus_core.hooks import hookimpl
from argus_core.steps.numbers import is_count

__all__ = ["Accumulate"]


class Accumulate:
    """Gradient accumulation: one update from ``steps`` loader batches.

    The update weighs each by what its loss divides by (``steps/shares.py``), so the result equals one update
    from the joined batch, for batches of any sizes. The last update of an epoch takes the loader batches that
    remain.
    """

    def __init__(self, steps: int) -> None:
        if not is_count(steps):
            raise ParamsError(
                f"step 'accumulate': steps is {steps!r}; "
                "give an integer of at least 1 (loader batches per update)"
            )
        self.steps = steps

    @hookimpl
    def window_size(self) -> int:
        return self.steps
