"""The values of training so far, reported at a cadence within an epoch."""

from __future__ import annotations

import time

import torch

from argus_core.callbacks.cadence import Cadence, Due
from argus_core.callbacks.callback import Callback
from argus_core.callbacks.epoch_report import midway_record
from argus_core.callbacks.state import State
from argus_core.errors import ParamsError
from argus_core.hooks import hookimpl
from argus_core.metrics.values import compute_all

__all__ = ["RunningLog"]


class RunningLog(Callback):
    """Raises ``measured_midway`` with the metrics of the epoch so far, and with rates since the last time.

    It waits for the device only then. Time that validations take does not count.

    Args:
        cadence: how often.
    """

    reads_predictions = False
    computes = ()

    def __init__(self, cadence: Cadence) -> None:
        self._due = Due(cadence)
        self._began = self._validation_began = 0.0
        self._updates = 0
        self._samples: int | None = 0

    @classmethod
    def at(cls, cadence: Cadence | None) -> list[RunningLog]:
        """Return the callback for a cadence, if there is one."""
        return [] if cadence is None else [cls(cadence)]

    def start(self, state: State) -> None:
        self._due.start(state.global_step)
        self._begin()

    @hookimpl(trylast=True)
    def iteration_complete(self, state: State) -> None:
        self._updates += 1
        if self._samples is not None:
            self._samples = self._with_batch(self._samples, state)
        if self._due.after_update(state.global_step):
            self._report(state)

    @hookimpl(tryfirst=True)
    def validation_start(self, state: State) -> None:
        self._validation_began = time.monotonic()

    @hookimpl(trylast=True)
    def validation_complete(self, state: State) -> None:
        self._began += time.monotonic() - self._validation_began

    def epoch_complete(self, state: State) -> None:
        if self._due.after_epoch(state.epoch):
            self._report(state)

    def _report(self, state: State) -> None:
        engine, device = state.engine, state.model.device
        values = {}
        if engine.position.skipped < engine.position.updates_done:
            values = compute_all(engine.metrics, state.phase, device)
        seconds = max(time.monotonic() - self._began, 1e-9)  # after the values, which wait for the device
        rates = {"updates_per_second": self._updates / seconds}
        if self._samples is not None:
            rates["samples_per_second"] = self._samples / seconds
        if device.type == "cuda":
            rates["peak_memory"] = torch.cuda.max_memory_allocated(device)
        state.midway = midway_record(state.phase, state, values, rates)
        self._begin()
        engine.raise_event("measured_midway")

    def _begin(self) -> None:
        self._began, self._updates = time.monotonic(), 0
        self._samples = None if self._samples is None else 0

    def _with_batch(self, samples: int, state: State) -> int | None:
        """Add an update's samples; ``None`` where a batch does not tell them."""
        size = state.model.batch_size
        try:
            batch = state.batch
            return samples + (size(batch) if state.engine.window_size == 1 else sum(map(size, batch)))
        except ParamsError:
            return None
