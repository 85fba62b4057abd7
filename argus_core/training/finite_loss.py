"""A warning about a loss that is nan or inf."""

from __future__ import annotations

import math

from argus_core.callbacks.callback import Callback
from argus_core.callbacks.state import State

__all__ = ["FiniteLoss"]


class FiniteLoss(Callback):
    """Logs one warning in the first epoch of a run whose loss is not finite."""

    reads_predictions = False
    computes = ()

    def __init__(self) -> None:
        self._has_warned = False

    def epoch_complete(self, state: State) -> None:
        losses = {name: state.metrics.get(name, 0.0) for name in map("{}_loss".format, state.phase_states)}
        broken = {name: value for name, value in losses.items() if not math.isfinite(value)}
        if not broken or self._has_warned:
            return
        self._has_warned = True
        action = "look for nan and inf in the validation data, or lower the learning rate"
        if "train_loss" in broken:
            action = "lower the learning rate, look for nan and inf in the data"
            if "finite_guard" not in state.model.step_traits():
                action += ", or add the step 'finite_guard', which stops the run at the first such update"
        found = " and ".join(f"{name} is {value}" for name, value in broken.items())
        state.logger.warning("%s in epoch %d; %s", found, state.epoch + 1, action)
