"""The table of predictions: a row for each sample, with columns that the first batch decides."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy
import torch
from torch import Tensor

from argus_core.data.description import DataDescription
from argus_core.errors import ArgusError, ArgusWarning
from argus_core.prediction.loading import FileBatch
from argus_core.tensors.listing import named_tensors
from argus_core.text import one_line

__all__ = ["Columns", "Layout", "as_array", "columns_of", "layout_of", "rows_in"]

Columns = dict[str, Any]
"""The values of each column: a list of strings or integers, or an array of numbers."""

_NEARLY = 1e-3
_MOST_COLUMNS = 10_000


@dataclass(frozen=True)
class Layout:
    """The form of a table.

    Attributes:
        has_rows: whether a column ``row`` has the names of samples in their files.
        classes: the names of classes; empty if predictions are not of classes.
        is_probability: whether the predictions of the classes are probabilities.
        names: of the predicted values, if they are not of classes; ``None`` where they fit no table.
        top: the number of classes with columns of their own for each sample, the likeliest first.
        all_classes: whether every class has a column.
    """

    has_rows: bool
    classes: tuple[str, ...] = ()
    is_probability: bool = False
    names: tuple[str, ...] | None = None
    top: int = 1
    all_classes: bool = False

    @property
    def score(self) -> str:
        """The name of the column with the prediction of a class."""
        return "probability" if self.is_probability else "score"

    def record(self) -> dict[str, Any]:
        """Return it as plain data, from which ``Layout(**record)`` makes it again."""
        return asdict(self)


def layout_of(
    data: DataDescription,
    prediction: Any,
    has_rows: bool,
    top: int = 1,
    all_classes: bool = False,
    gives_probabilities: bool | None = None,
) -> Layout:
    """Return the layout for a model's predictions, of which the first batch is given.

    Args:
        data: that the model was trained on.
        prediction: of the first batch.
        has_rows: whether files have several samples.
        top: the classes for each sample.
        all_classes: whether each class has a column.
        gives_probabilities: whether one number for two classes is a probability; if not, it is a logit, also
            in a batch of which all are between 0 and 1. ``None`` lets the first batch decide.

    Columns are those of classes if the prediction is one number for each class that the model knows, or one
    for two classes; or if it is a probability for each of several classes, which are numbered then.
    """
    scores = _scores(prediction)
    number = 0 if scores is None else scores.shape[1]
    classes = data.classes or ()
    is_probability = scores is not None and _are_probabilities(scores)
    if scores is not None and classes and number == 1 and len(classes) == 2 and not data.target_names:
        is_single = gives_probabilities is not False and _are_between_0_and_1(scores)
        return Layout(has_rows, classes, is_single, None, min(top, 2), all_classes)
    if number > 1 and classes and number != len(classes):
        warnings.warn(
            f"the model predicts {number} values, and its data have {len(classes)} classes, so the table has "
            "numbers in place of their names; correct classes of the dataset and train again",
            ArgusWarning,
            stacklevel=3,
        )
        classes = tuple(map(str, range(number)))
    elif number > 1 and is_probability and not data.target_names:
        classes = classes or tuple(map(str, range(number)))
    if number > 1 and classes:
        return Layout(has_rows, classes, is_probability, None, min(top, number), all_classes)
    return Layout(has_rows, names=_value_names(data, prediction))


def columns_of(layout: Layout, batch: FileBatch, prediction: Any) -> Columns:
    """Return the columns of a batch.

    Raises:
        ArgusError: the prediction has another form than that of the first batch, or fits no table.
    """
    columns: Columns = {"file": batch.files}
    if layout.has_rows:
        columns["row"] = batch.rows
    _check_length(prediction, len(batch.files))
    if layout.classes:
        scores = _scores(prediction)
        if scores is not None and scores.shape[1] == 1 and len(layout.classes) == 2:
            if layout.is_probability and not _are_between_0_and_1(scores):
                raise ArgusError(
                    "a later prediction is not between 0 and 1, as the first ones were; train with a "
                    "prediction_transform that makes probabilities, such as Sigmoid"
                )
            other = 1 - scores if layout.is_probability else -scores
            scores = numpy.concatenate([other, scores], 1)
        if scores is None or scores.shape[1] != len(layout.classes):
            raise ArgusError(
                f"a later prediction is not of {len(layout.classes)} classes, as the first one; let the "
                "network give the same for each sample"
            )
        return columns | _of_classes(layout, scores)
    if layout.names is None:
        raise ArgusError(
            "a prediction of this model has more values than a table has columns; write an .npz file, "
            "which holds arrays"
        )
    return columns | _of_values(layout.names, prediction)


def _are_between_0_and_1(scores: Any) -> bool:
    return bool(((scores >= 0) & (scores <= 1)).all())


def rows_in(columns: Columns) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of columns, with plain values."""
    plain = (each.tolist() if isinstance(each, numpy.ndarray) else each for each in columns.values())
    return zip(*plain, strict=True)


def as_array(tensor: Tensor) -> Any:
    """Return a tensor as an array on the CPU; numpy has neither bfloat16 nor float8."""
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    if tensor.is_floating_point() and tensor.dtype not in (torch.float64, torch.float32):
        tensor = tensor.float()
    return tensor.numpy()


def _of_classes(layout: Layout, scores: Any) -> Columns:
    if layout.top == 1:
        order = scores.argmax(1)[:, None]
    else:
        order = numpy.argsort(-scores, axis=1, kind="stable")[:, : layout.top]
    best = scores[numpy.arange(len(scores))[:, None], order]  # faster than numpy.take_along_axis
    columns: Columns = {}
    for place in range(layout.top):
        ending = "" if place == 0 else f"_{place + 1}"
        columns[f"class{ending}"] = [layout.classes[each] for each in order[:, place].tolist()]
        columns[f"{layout.score}{ending}"] = best[:, place]
    if layout.all_classes:
        for place, name in enumerate(layout.classes):
            columns[f"{layout.score} {name}"] = scores[:, place]
    return columns


def _of_values(names: Sequence[str], prediction: Any) -> Columns:
    arrays = [as_array(tensor) for _, tensor in named_tensors("prediction", prediction)]
    flat = [column for array in arrays for column in array.reshape(len(array), -1).T]
    if len(flat) != len(names):
        raise ArgusError(
            f"a later prediction has {len(flat)} values, and the first one {len(names)}; let the network "
            "give as many for each sample, or write an .npz file"
        )
    return dict(zip(names, flat, strict=True))


def _value_names(data: DataDescription, prediction: Any) -> tuple[str, ...] | None:
    names: list[str] = []
    for name, tensor in named_tensors("prediction", prediction):
        number = tensor[:1].numel() if tensor.ndim else 0
        if len(names) + number > _MOST_COLUMNS or not number:
            return None
        names += [name] if number == 1 else [f"{name}_{index}" for index in range(number)]
    if data.target_names and len(data.target_names) == len(names):
        return tuple(data.target_names)
    return tuple(names)


def _scores(prediction: Any) -> Any:
    """Return a prediction as an array (samples, classes), ``None`` if it is of another form."""
    if not isinstance(prediction, Tensor) or not prediction.is_floating_point():
        return None
    if prediction.ndim == 1:
        prediction = prediction[:, None]
    return as_array(prediction) if prediction.ndim == 2 else None


def _are_probabilities(scores: Any) -> bool:
    return scores.shape[1] > 1 and bool(
        (scores >= 0).all() and (numpy.abs(scores.sum(1) - 1) < _NEARLY).all()
    )


def _check_length(prediction: Any, samples: int) -> None:
    lengths = {len(tensor) if tensor.ndim else 0 for _, tensor in named_tensors("prediction", prediction)}
    if lengths != {samples}:
        found = one_line(", ".join(map(str, sorted(lengths))) or type(prediction).__name__)
        raise ArgusError(
            f"the prediction of a batch of {samples} samples has the length {found}; choose a "
            "prediction_transform that gives one for each sample"
        )
