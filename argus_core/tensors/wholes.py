"""The facts about a global batch that every process knows, so that it need not ask the others."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Whole"]


class Whole(NamedTuple):
    """The batch of all processes, of which each reads a slice.

    Attributes:
        samples: of all processes.
        target: the targets of all processes, where each of them has these in memory.
        is_regular: whether a slice has as many rows as samples, and all rows of targets have one shape.
    """

    samples: int
    target: Tensor | None = None
    is_regular: bool = False
