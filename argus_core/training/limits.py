"""The number of steps to which an epoch is limited."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from argus_core.callbacks.asking import called
from argus_core.callbacks.limit import LIMITS, is_limit
from argus_core.data.order import loader_length
from argus_core.errors import ParamsError
from argus_core.registry.factory import described

__all__ = ["check_limit", "steps_within"]

_EXCESS = 1e-9  # of a product of floats over the whole number that is meant


def check_limit(argument: str, limit: Any) -> None:
    """Check a limit of an epoch.

    Raises:
        ParamsError: it is invalid.
    """
    if limit is not None and not is_limit(limit):
        raise ParamsError(f"{called(argument)} is {described(limit)}; give {LIMITS}")


def steps_within(
    argument: str, limit: float | None, loader: Iterable[Any], window_size: int = 1
) -> int | None:
    """Return the most steps in an epoch, ``None`` without a limit; a share of an epoch is rounded up.

    Args:
        argument: the limit's name, for messages.
        limit: a number of steps (an integer), or a share of the loader's.
        loader: of batches.
        window_size: how many batches make a step.

    Raises:
        ParamsError: it is a share of a loader without a length.
    """
    if limit is None or isinstance(limit, int):
        return limit
    length = loader_length(loader)
    if length is None:
        raise ParamsError(
            f"{called(argument)} is {limit}, a share of an epoch, and the loader has no length; give a "
            "number of steps"
        )
    return max(math.ceil(limit * -(-length // window_size) - _EXCESS), 1)
