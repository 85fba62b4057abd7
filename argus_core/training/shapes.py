"""The shapes and dtypes of a batch, for messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["shape_of"]

_SHOWN = 6  # items of a batch


def shape_of(value: Any) -> str:
    """Return shape and dtype of a tensor, or those in a structure of tensors: ``[(8, 4) float32, int]``."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, Mapping):
        items = [f"{key}: {shape_of(each)}" for key, each in list(value.items())[:_SHOWN]]
        return "{" + ", ".join(items) + (", ..." if len(value) > _SHOWN else "") + "}"
    if isinstance(value, tuple | list):
        shown = ", ".join(map(shape_of, value[:_SHOWN])) + (", ..." if len(value) > _SHOWN else "")
        return f"[{shown}]"
    return type(value).__name__
