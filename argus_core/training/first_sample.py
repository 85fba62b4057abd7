"""The form of the samples that a run trains on, for the description of its data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from argus_core.abstract_model import AbstractModel
from argus_core.data.sample_form import sample_form

__all__ = ["FirstSample"]


class FirstSample:
    """Adds the form of a sample to ``model.data`` when it is called with a run's first loader batch.

    An engine passes the first batch of each epoch through it.
    """

    def __init__(self, model: AbstractModel) -> None:
        self._model = model
        self._has_seen = False

    def __call__(self, batch: Any) -> Any:
        if not self._has_seen:
            self._has_seen = True
            form = sample_form(batch, self._model.batch_dim)
            self._model.data = replace(self._model.data, sample=form)
        return batch
