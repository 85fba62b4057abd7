"""Notes on exceptions of a loss: its arguments, and advice for the user."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from argus_core.training.shapes import shape_of

__all__ = ["loss_note"]

_GENERAL = "check the parameters of the loss, and that it takes such predictions and targets"
_MOST_NAMES = 10
_OF_COLUMNS = ("multi-target", "spatial targets")  # torch, where class numbers have a dimension of their own


def loss_note(error: BaseException, loss: Any, names: Sequence[str] | None = None) -> str:
    """Return the prediction and the target from which a loss raised an exception, and the next action.

    Args:
        error: the exception.
        loss: that raised it.
        names: of the classes of the data, where they are known.
    """
    given = _given(error, loss)
    if given is None:
        return _GENERAL
    prediction, target = given
    shown = f"prediction is {shape_of(prediction)}, target is {shape_of(target)}"
    action = ""
    if isinstance(prediction, Tensor) and isinstance(target, Tensor):
        action = _action(str(error), prediction, target, names or ())
    return f"{shown}; {action or _GENERAL}"


def _given(error: BaseException, loss: Any) -> tuple[Any, Any] | None:
    """Return the two arguments of the loss's call; ``None`` where it was called with others."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_locals.get("self") is loss and frame.f_code.co_name == "_call_impl":
            args = frame.f_locals.get("args", ())
            return args if len(args) == 2 else None
    return None


def _action(message: str, prediction: Tensor, target: Tensor, names: Sequence[str]) -> str:
    """Return what to do about an exception of one of torch's losses, or nothing."""
    numbers = not target.is_floating_point()
    if "out of bounds" in message and numbers:
        classes = prediction.shape[min(1, prediction.ndim - 1)]
        if len(names) > classes:
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            return (
                f"the prediction has {classes} classes, and the data have {len(names)} "
                f"({', '.join(map(repr, names[:_MOST_NAMES]))}{more}); give the network as many outputs as "
                "there are classes, or leave the others out of the data"
            )
        return (
            f"the prediction has {classes} classes, so targets are from 0 to {classes - 1}; number the "
            "classes from 0, or give the network as many outputs as there are classes"
        )
    if any(each in message for each in _OF_COLUMNS) and numbers and target.shape[1:2] == (1,):
        return "class numbers have no dimension of their own: give target.squeeze(1)"
    if "Long" in message and target.ndim < prediction.ndim:
        if target.dtype is torch.int64:
            return "a tensor of the loss, such as its class weights, is int64: make it .float()"
        return "class numbers are int64: give target.long()"
    if prediction.shape == (*target.shape, 1):
        return "give target.unsqueeze(-1), or a network without the last dimension"
    if numbers and prediction.shape == target.shape and prediction.is_floating_point():
        return "give target.float()"
    return ""
