"""Checks of the values in a metric's stored state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from argus_core.storage.stored import Rule, check_state, is_number

__all__ = ["check_metric_state"]

_NUMBERS = Rule(
    lambda value: is_number(value) or isinstance(value, torch.Tensor), "a number or a tensor", optional=True
)
_NUMBER = Rule(
    lambda value: is_number(value) or _is_scalar(value), "a number or a tensor of one", optional=True
)


def check_metric_state(
    name: str, state: Mapping[str, Any], names: Iterable[str], scalar: bool = False
) -> None:
    """Check the values of the keys ``names`` of a metric's stored state.

    Raises:
        UnsafeCheckpointError: a value is neither a number nor a tensor (with ``scalar``, of one number).
    """
    rule = _NUMBER if scalar else _NUMBERS
    check_state(f"metric {name!r}", state, dict.fromkeys(names, rule), closed=False)


def _is_scalar(value: Any) -> bool:
    if not isinstance(value, torch.Tensor):
        return False
    return not value.dim() and not value.is_complex() and value.dtype != torch.bool
