"""The note on an exception of a part of a model, of a metric or of a dataset: where it was raised."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.utils.data import Dataset
from torch.utils.data.dataloader import _BaseDataLoaderIter

from argus_core.abstract_model import AbstractModel
from argus_core.callbacks.state import State
from argus_core.data.order import own_dataset
from argus_core.errors import ArgusError, ParamsError
from argus_core.metrics.metric import Metric
from argus_core.steps.output import Window
from argus_core.tensors.listing import first_tensor

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["add_note", "note_prediction"]

_SHOWN = 6  # items of a batch
_ITS_STATE = " (if its state is from a checkpoint, that may not fit it: load with optimizer=None)"
_ONE_VALUE = "Expected more than 1 value per channel when training"  # torch, of batch normalisation
_CALLS = ("forward", "_call_impl")  # the second where a forward takes other arguments
_UNKNOWN = object()
_OF_LOSS = "check its parameters, and that it takes such predictions and targets"
_OF_OPTIMIZER = "if its state is from a checkpoint, that may not fit it: load with optimizer=None"
_OF_TRANSFORM = "check its parameters; load_model(path, prediction_transform=None) leaves it out"


def add_note(error: BaseException, state: State) -> None:
    """Say in a note on ``error`` where in the run it was raised; a Python without notes shows none.

    argus_core's own errors say it themselves.
    """
    if not _takes_note(error):
        return
    place, action = _raised_by(error, state.model, state.engine.metrics) or ("in the run", "")
    done, made = ("updates", "update") if state.phase == "train" else ("batches", "batch")
    if place.startswith("by the loader"):
        note = f"raised {place}, after {state.iteration + 1} {done} of {state.phase} epoch {state.epoch + 1}"
    else:
        note = f"raised {place}, in {made} {state.iteration + 1} of {state.phase} epoch {state.epoch + 1}"
        batches = state.batch if isinstance(state.batch, Window) else [state.batch]
        shapes = " and ".join(_shape(batch) for batch in batches if batch is not None)
        note += shapes and f", from the batch {shapes}"
    if _ONE_VALUE in str(error):
        action = (
            "batch normalisation takes no batch of one sample in training: set drop_last=True in the "
            "loader, or choose a batch size that leaves no last batch of one"
        )
    _note(error, note, action)


def note_prediction(error: Exception, model: AbstractModel, input: Any = _UNKNOWN) -> None:
    """Say in a note on ``error`` which part of ``model`` raised it in a prediction.

    Args:
        error: that was raised.
        model: that predicts.
        input: of one batch, where it is known.

    Raises:
        ParamsError: the input holds no tensor, nor anything that moves to a device as tensors do.
    """
    if _takes_note(error):
        place, action = _raised_by(error, model) or ("while predicting", "")
        if input is not _UNKNOWN and not place.startswith("by the prediction transform"):
            _check_input(input, error)
        shape = "" if input is _UNKNOWN else f", from the input {_shape(input)}"
        _note(error, f"raised {place}{shape}", action)


def _check_input(input: Any, error: Exception) -> None:
    if first_tensor(input) is not None or hasattr(input, "to"):
        return
    reason = str(error).partition("\n")[0]
    raise ParamsError(
        f"the input of predict is a {type(input).__name__} without a tensor, from which the network raised "
        f"{type(error).__name__}: {reason}; give a batch of inputs as a tensor, such as "
        "torch.tensor([[0.1, 0.2], [0.3, 0.4]])"
    ) from error


def _takes_note(error: BaseException) -> bool:
    return (
        isinstance(error, Exception) and not isinstance(error, ArgusError) and not hasattr(error, "__notes__")
    )


def _note(error: BaseException, note: str, action: str) -> None:
    text = f"{note}; {action}" if action else note
    error.__notes__ = [text]  # type: ignore[attr-defined]  # as add_note does, which Python 3.10 does not have


def _raised_by(
    error: BaseException, model: AbstractModel, metrics: Iterable[Metric] = ()
) -> tuple[str, str] | None:
    """Return the innermost part that an exception came through, and what to do about it."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next(filter(None, (_place(frame, model, metrics) for frame in reversed(frames))), None)


def _place(frame: FrameType, model: AbstractModel, metrics: Iterable[Metric]) -> tuple[str, str] | None:
    """Return which part a frame belongs to, and what to do about it."""
    owner, function = frame.f_locals.get("self"), frame.f_code.co_name
    if owner is None:
        return None
    if isinstance(owner, nn.Module) and function in _CALLS:
        if owner is model.loss:
            return f"by the loss {type(owner).__name__}", _OF_LOSS
        layers = model.get_nn_module().named_modules()
        name = next((name for name, layer in layers if layer is owner), None)
        if name is not None:
            layer = f"'s layer {name!r} ({type(owner).__name__})" if name else ""
            return f"by the network{layer}", ""
    if owner is model.optimizer and function == "step":
        return f"by the optimizer {type(owner).__name__}", _OF_OPTIMIZER
    if owner is model and function == "transform_prediction":
        part = model.parts.get("prediction_transform")
        return f"by the prediction transform {part.name if part else ''}".rstrip(), _OF_TRANSFORM
    for metric in metrics:
        if owner is metric:
            return f"by the metric {metric.name!r}", "check its parameters, or leave it out"
    if isinstance(owner, Dataset) and function in ("__getitem__", "__getitems__", "__iter__"):
        return f"by the loader, in dataset {type(own_dataset(owner)).__name__}", ""
    return ("by the loader", "") if isinstance(owner, _BaseDataLoaderIter) else None


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
