"""Notes on exceptions: the component, update and epoch in which one was raised."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn
from torch.utils.data import Dataset
from torch.utils.data.dataloader import _BaseDataLoaderIter

from argus_core.abstract_model import AbstractModel
from argus_core.callbacks.asking import ask_for_validation
from argus_core.callbacks.audience import named
from argus_core.callbacks.state import State, validation_phases
from argus_core.data.failures import failed_place
from argus_core.data.reading import own_dataset
from argus_core.errors import ArgusError, ParamsError
from argus_core.metrics.metric import Metric
from argus_core.steps.output import Window
from argus_core.tensors.listing import first_tensor
from argus_core.training.loss_note import loss_note
from argus_core.training.shapes import shape_of

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["add_note", "note_prediction"]

_ITS_STATE = " (if its state is from a checkpoint, that may not fit it: load with optimizer=None)"
_ONE_VALUE = "Expected more than 1 value per channel when training"  # torch, of batch normalisation
_CALLS = ("forward", "_call_impl")  # the second where a forward takes other arguments
_UNKNOWN = object()
_LONGEST_LAYER = 120  # characters
_OF_OPTIMIZER = "if its state is from a checkpoint, that may not fit it: load with optimizer=None"
_OF_TRANSFORM = "check its parameters; load_model(path, prediction_transform=None) leaves it out"


class _Origin(NamedTuple):
    """The origin of an exception, advice for the user, and the event that a callback handled."""

    place: str
    action: str = ""
    event: str = ""


def add_note(error: BaseException, state: State) -> None:
    """Add a note to ``error`` with the place in the run where it was raised (Python 3.11 or newer).

    argus_core's own errors say it themselves.
    """
    if not _takes_note(error):
        return
    read = failed_place(error)
    origin = _Origin(f"by the loader, {read}") if read else _called_by(error, state)
    origin = origin or _raised_by(error, state.model, state.engine.metrics) or _Origin("in the run")
    epoch = f"{state.phase} epoch {state.epoch + 1}"
    done, made = ("updates", "update") if state.phase == "train" else ("batches", "batch")
    note, action = f"raised {origin.place}", origin.action
    if origin.event and not origin.event.startswith("iteration"):
        note += f" of {epoch}" if "_" in origin.event else ""
    elif origin.place.startswith("by the loader"):
        note += f", after {state.iteration + 1} {done} of {epoch}"
    else:
        note += f", in {made} {state.iteration + 1} of {epoch}"
        batches = state.batch if isinstance(state.batch, Window) else [state.batch]
        shapes = " and ".join(shape_of(batch) for batch in batches if batch is not None)
        note += shapes and f", from the batch {shapes}"
    if _ONE_VALUE in str(error):
        action = (
            "batch normalisation takes no batch of one sample in training: set drop_last=True in the "
            "loader, or choose a batch size that leaves no last batch of one"
        )
    _note(error, note, action)


def note_prediction(error: Exception, model: AbstractModel, input: Any = _UNKNOWN) -> None:
    """Add a note to ``error`` that names the component of ``model`` that raised it in a prediction.

    Args:
        error: that was raised.
        model: that predicts.
        input: of one batch, where it is known.

    Raises:
        ParamsError: the input holds no tensor, nor anything that moves to a device as tensors do.
    """
    if _takes_note(error):
        place, action, _ = _raised_by(error, model) or _Origin("while predicting")
        if input is not _UNKNOWN and not place.startswith("by the prediction transform"):
            _check_input(input, error)
        shape = "" if input is _UNKNOWN else f", from the input {shape_of(input)}"
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


def _frames(error: BaseException) -> list[FrameType]:
    """Return the frames that an exception came through, the innermost first."""
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)][::-1]


def _raised_by(error: BaseException, model: AbstractModel, metrics: Iterable[Metric] = ()) -> _Origin | None:
    """Return the innermost component of an exception's traceback, and advice for the user."""
    return next(filter(None, (_place(frame, error, model, metrics) for frame in _frames(error))), None)


def _called_by(error: BaseException, state: State) -> _Origin | None:
    """Return the innermost callback that an exception came through, and the part that it called, if any."""
    frames = _frames(error)
    for depth, frame in enumerate(frames):
        callback = _callback(frame, state)
        if callback is not None:
            name, event = callback
            parts = (_place(each, error, state.model, state.engine.metrics) for each in frames[:depth])
            part = next(filter(None, parts), None)
            place = f"{part.place}, called by" if part else "by"
            return _Origin(f"{place} callback {name}, in {event}", _of_key(error, state), event)
    return None


def _callback(frame: FrameType, state: State) -> tuple[str, str] | None:
    """Return the callback whose method a frame is of, and the event that it handles."""
    owner, code = frame.f_locals.get("self"), frame.f_code
    if owner is None:
        return None
    for engine in (each.engine for each in state.phase_states.values()):
        name = next((name for name, callback in named(engine.callbacks) if callback is owner), None)
        for event, handlers in engine.handlers.items() if name else ():
            own = [each for each in handlers if getattr(each, "__self__", None) is owner]
            codes = [getattr(each, "__code__", None) for each in own]
            if name and own and (event == code.co_name or code in codes):
                return name, event
    return None


def _of_key(error: BaseException, state: State) -> str:
    """Return what to do about a metric that a callback looked for."""
    key = error.args[0] if isinstance(error, KeyError) and error.args else None
    if not isinstance(key, str) or not key.startswith(("train_", "val_")):
        return ""
    has = f"state.metrics has {', '.join(state.metrics) or 'nothing yet'}"
    lacks_validation = key.startswith("val_") and not validation_phases(state)
    return f"{has}; {ask_for_validation()}" if lacks_validation else has


def _place(
    frame: FrameType, error: BaseException, model: AbstractModel, metrics: Iterable[Metric]
) -> _Origin | None:
    """Return the component that a frame belongs to, and advice for the user."""
    owner, function = frame.f_locals.get("self"), frame.f_code.co_name
    if owner is None:
        return None
    if isinstance(owner, nn.Module) and function in _CALLS:
        if owner is model.loss:
            return _Origin(f"by the loss {type(owner).__name__}", loss_note(error, owner, model.data.classes))
        layers = model.get_nn_module().named_modules()
        name = next((name for name, layer in layers if layer is owner), None)
        if name is not None:
            layer = f"'s layer {name!r} ({_shown(owner)})" if name else ""
            return _Origin(f"by the network{layer}")
    if owner is model.optimizer and function == "step":
        return _Origin(f"by the optimizer {type(owner).__name__}", _OF_OPTIMIZER)
    if owner is model and function == "transform_prediction":
        part = model.parts.get("prediction_transform")
        return _Origin(f"by the prediction transform {part.name if part else ''}".rstrip(), _OF_TRANSFORM)
    for metric in metrics:
        if owner is metric:
            return _Origin(f"by the metric {metric.name!r}", "check its parameters, or leave it out")
    if isinstance(owner, Dataset) and function in ("__getitem__", "__getitems__", "__iter__"):
        return _Origin(f"by the loader, in dataset {type(own_dataset(owner)).__name__}")
    return _Origin("by the loader") if isinstance(owner, _BaseDataLoaderIter) else None


def _shown(layer: nn.Module) -> str:
    """Return a layer as torch shows it, such as ``Linear(in_features=64, ...)``, if that is short."""
    shown = repr(layer)
    return shown if len(shown) <= _LONGEST_LAYER and "\n" not in shown else type(layer).__name__
