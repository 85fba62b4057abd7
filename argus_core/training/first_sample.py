"""The form of the samples that a run trains on, for the description of its data."""

from __future__ import annotations

from dataclasses import replace

from argus_core.callbacks.callback import Callback
from argus_core.callbacks.state import State
from argus_core.data.sample_form import sample_form
from argus_core.hooks import hookimpl
from argus_core.steps.output import Window

__all__ = ["FirstSample"]


class FirstSample(Callback):
    """Adds the form of a sample of the first batch to ``model.data``, before a checkpoint can be saved."""

    name = "first_sample"
    reads_predictions = False
    computes = ()

    def __init__(self) -> None:
        self._has_seen = False

    @hookimpl(tryfirst=True)
    def iteration_complete(self, state: State) -> None:
        if self._has_seen:
            return
        self._has_seen = True
        batch = state.batch[0] if isinstance(state.batch, Window) else state.batch
        state.model.data = replace(state.model.data, sample=sample_form(batch, state.model.batch_dim))
