"""Predictions of a model on files, by its own description of its data."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from argus_core.abstract_model import AbstractModel
from argus_core.config.stored_data import stored_data
from argus_core.errors import ArgusError
from argus_core.prediction.predictions import Predictions
from argus_core.prediction.preparation import Preparation
from argus_core.prediction.readers import Readers
from argus_core.prediction.sources import find_files

__all__ = ["predict_on"]


def predict_on(
    model: AbstractModel,
    paths: Any,
    *,
    reader: Any = None,
    prepare: Any = None,
    top: int = 1,
    all_classes: bool = False,
    batch_size: int = 32,
    num_workers: int = 0,
    changes: Sequence[str] = (),
    source: Path | None = None,
) -> Predictions:
    """Return the predictions of a model for the samples of files.

    Args:
        model: its ``data`` say how samples are prepared, and the names of classes and features.
        paths: a file, folder or pattern, or several.
        reader: the spec of the reader for all files; by default the suffix of each decides.
        prepare: a function that makes an input of a sample, or a dict of such functions by sort (``image``,
            ``row``, ``text``, ``input``); by default what the model's validation data did.
        top: classes of each sample, the likeliest first.
        all_classes: whether each class has a column.
        batch_size: samples that are predicted at a time.
        num_workers: processes that read files.
        changes: ``key=value`` for keys of ``[data]`` in the description of the data.
        source: the checkpoint, for messages.

    Raises:
        ArgusError: there are no files, or it is unknown how to prepare their samples.
    """
    for name, value in (("top", top), ("batch_size", batch_size)):
        if type(value) is not int or value < 1:
            raise ArgusError(f"{name} is {value!r}; give an integer of at least 1")
    data = model.data
    config = stored_data(data.specs, source or Path("the model"), data.seed or 0, "cpu", changes)
    preparation = Preparation(data, config, _by_sort(prepare))
    readers = Readers(reader, data.feature_names)
    given = [paths] if isinstance(paths, str | os.PathLike) else [*paths]
    files = find_files(given, readers, _Sorts(preparation))
    return Predictions(model, files, preparation, readers, batch_size, num_workers, top, all_classes)


class _Sorts:
    """The sorts of samples in folders, which only folders need."""

    def __init__(self, preparation: Preparation) -> None:
        self._preparation = preparation

    def __contains__(self, sort: object) -> bool:
        return sort in self._preparation.sorts


def _by_sort(prepare: Any) -> Mapping[str, Callable[[Any], Any]]:
    if prepare is None:
        return {}
    if isinstance(prepare, Mapping):
        return prepare
    if not callable(prepare):
        raise ArgusError(f"prepare is {prepare!r}; give a function of a sample, or a dict of them by sort")
    return dict.fromkeys(("input", "row", "image", "text"), prepare)
