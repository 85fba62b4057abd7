"""The note on an exception of a part of a model, or of a dataset: where in the run it was raised."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.utils.data import Dataset
from torch.utils.data.dataloader import _BaseDataLoaderIter

from argus_core.errors import ArgusError
from argus_core.steps.output import Window

if TYPE_CHECKING:
    from types import FrameType

    from argus_core.engine import State

__all__ = ["add_note"]

_SHOWN = 6  # items of a batch
_ITS_STATE = " (if its state is from a checkpoint, that may not fit it: load with optimizer=None)"
_ONE_VALUE = "Expected more than 1 value per channel when training"  # torch, of batch normalisation


def add_note(error: BaseException, state: State) -> None:
    """Say in a note on ``error`` where in the run it was raised; a Python without notes shows none.

    argus_core's own errors say it themselves.
    """
    if not isinstance(error, Exception) or isinstance(error, ArgusError) or hasattr(error, "__notes__"):
        return
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    place = next(filter(None, (_place(frame, state) for frame in reversed(frames))), "in the run")
    done, made = ("updates", "update") if state.phase == "train" else ("batches", "batch")
    if place.startswith("by the loader"):
        note = f"raised {place}, after {state.iteration + 1} {done} of {state.phase} epoch {state.epoch + 1}"
    else:
        note = f"raised {place}, in {made} {state.iteration + 1} of {state.phase} epoch {state.epoch + 1}"
        batches = state.batch if isinstance(state.batch, Window) else [state.batch]
        shapes = " and ".join(_shape(batch) for batch in batches if batch is not None)
        note += shapes and f", from the batch {shapes}"
    if _ONE_VALUE in str(error):
        note += (
            "; batch normalisation takes no batch of one sample in training: set drop_last=True in the "
            "loader, or choose a batch size that leaves no last batch of one"
        )
    error.__notes__ = [note]  # type: ignore[attr-defined]  # as add_note does, which Python 3.10 does not have


def _place(frame: FrameType, state: State) -> str:
    """Return which layer, loss, optimizer or dataset a frame belongs to, or ``""``."""
    owner, function = frame.f_locals.get("self"), frame.f_code.co_name
    if isinstance(owner, nn.Module) and function == "forward":
        if owner is state.model.loss:
            return f"by the loss {type(owner).__name__}"
        layers = state.model.get_nn_module().named_modules()
        name = next((name for name, layer in layers if layer is owner), None)
        if name is not None:
            return f"by the network's layer {name!r} ({type(owner).__name__})" if name else "by the network"
    if owner is state.model.optimizer and function == "step":
        return f"by the optimizer {type(owner).__name__}{_ITS_STATE}"
    if isinstance(owner, Dataset) and function in ("__getitem__", "__getitems__", "__iter__"):
        return f"by the loader, in dataset {type(owner).__name__}"
    return "by the loader" if isinstance(owner, _BaseDataLoaderIter) else ""


def _shape(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, Mapping):
        items = [f"{key}: {_shape(each)}" for key, each in list(value.items())[:_SHOWN]]
        return "{" + ", ".join(items) + (", ..." if len(value) > _SHOWN else "") + "}"
    if isinstance(value, tuple | list):
        shown = ", ".join(map(_shape, value[:_SHOWN])) + (", ..." if len(value) > _SHOWN else "")
        return f"[{shown}]"
    return type(value).__name__
