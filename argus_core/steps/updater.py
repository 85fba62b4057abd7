"""Optimizer updates of a model, one after another, with the model's step strategies.

``Model.forward_loss`` is inlined here and in `argus_core.steps.update`: between two kernels of torch, each
Python function that runs costs a microsecond or more of cold caches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from argus_core.abstract_model import AbstractModel
from argus_core.steps.composition import Composed
from argus_core.steps.contexts import Evaluation
from argus_core.steps.output import StepOutput
from argus_core.steps.parameters import clear_gradients
from argus_core.steps.reading import Reading
from argus_core.steps.reduction import ask_others
from argus_core.steps.shares import check_loss
from argus_core.steps.slots import Slots
from argus_core.steps.update import Update
from argus_core.steps.weights import Weights

__all__ = ["Updater"]

_PAIR = (tuple, list)


class Updater:
    """The optimizer updates of one model with its step strategies.

    Args:
        model: the model that is trained.
        composed: its strategies.
        usual: the class whose methods are inlined here where the model does not override them.

    Attributes:
        model: the model that is trained.
        slots: the strategies' methods in each slot of an update.
        window_size: the number of loader batches in one update.
        weights: returns the weight of a batch's loss.
        evaluation: the contexts around validation and prediction.
        finish_prediction: the functions applied to each prediction before its transform.
    """

    def __init__(self, model: AbstractModel, composed: Composed, usual: type[AbstractModel]) -> None:
        self.model = model
        self._usual = usual.forward_loss
        for set_up in composed.implementations("set_up", model):
            set_up(model)
        self.slots = Slots.of(composed, model)
        self._made_by: type[Update] = Update
        if model.parallel.several:
            from argus_core.steps.shared_update import SharedUpdate  # lazy: most runs have one process

            self._made_by, self.slots = SharedUpdate, replace(self.slots, is_plain=False)
            model.parallel.start(model, overlap=self.slots.out_of_memory is None)
        self.window_size: int = composed.implementations("window_size", model)[0]()
        self.weights: Weights = model.build_weights(self.slots.micro_batch_weight)
        self.finish_prediction = composed.implementations("finish_prediction", model)
        self.evaluation = Evaluation(composed.implementations("evaluation_context", model))

    def run_plain(self, batch: Any) -> StepOutput:
        """Make an update from one loader batch where no strategy changes the update.

        It does what `run` does, in one function: the plain training loop, at its speed. Tests compare the
        two.
        """
        model = self.model
        batch = self.slots.prepare_batch[0](batch, model.device)
        clear_gradients(model.optimizer)
        forward_loss, criterion = model.forward_loss, model.loss
        weight: float | Tensor | None = None
        if (
            criterion is not None
            and getattr(forward_loss, "__func__", None) is self._usual
            and isinstance(batch, _PAIR)
            and len(batch) == 2
        ):
            input, target = batch
            prediction = model.nn_module(input)
            loss = criterion(prediction, target)
            weight = self.weights.divisors.get(type(criterion), ask_others)(criterion, target)
        else:
            prediction, target, loss = forward_loss(batch)
        if type(loss) is not Tensor or loss.ndim or not loss.requires_grad:
            check_loss(loss, on_graph=True)
        is_sum = False
        if weight is None:
            if self.weights.is_new(criterion):
                self.weights.observe(batch, prediction, target)
            is_sum = self.weights.is_sum()
            weight = self.weights.of_batch(batch, prediction, target, is_sum)
        loss.backward()
        model.optimizer.step()
        return StepOutput(model, ((prediction, target),), loss.detach(), weight, True, is_sum=is_sum)

    def run(self, window: Sequence[Any], reading: Reading | None = None) -> StepOutput:
        """Make one update from a window of loader batches and return its output.

        Args:
            window: of loader batches.
            reading: the metrics that read predictions; without it the output keeps them.
        """
        return self._made_by(self.model, self.slots, self.weights, self._usual, reading).make(window)

    def prepare(self, batch: Any) -> Any:
        """Return a loader batch in the form that the network takes, on the device."""
        for prepare in self.slots.prepare_batch:
            batch = prepare(batch, self.model.device)
        return batch
