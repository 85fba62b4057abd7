"""The input of a training step, a window of batches, and its output: prediction, target and loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from argus_core.abstract_model import AbstractModel
from argus_core.errors import ArgusError
from argus_core.tensors.batch import deep_detach
from argus_core.tensors.joining import Layout, deep_cat

__all__ = ["Part", "PartLoss", "StepOutput", "Window"]

Part = tuple[Any, Any]
"""A micro-batch's prediction before prediction_transform, and its target."""

PartLoss = tuple["torch.Tensor | float", "torch.Tensor | float"]
"""A micro-batch's loss (detached), and its weight in the window's loss."""


class Window(tuple[Any, ...]):
    """The loader batches of one update."""

    __slots__ = ()


class StepOutput(Mapping[str, Any]):
    """The output of a step: ``prediction``, ``target`` and ``loss``.

    ``prediction`` (after prediction_transform, detached) and ``target`` are on the processing device;
    ``loss`` is a float. Each is computed at its first read, and reading ``loss`` waits for the device. Parts
    that cannot be joined, such as sequences padded to several lengths, form a list. A run discards
    predictions and targets that neither metrics nor callbacks read.

    Args:
        model: its prediction_transform applies.
        parts: for each micro-batch its prediction before prediction_transform, and its target.
        loss_tensor: see below.
        samples: see below.
        stepped: see below.
        is_sum: see below.
        part_losses: for each of several micro-batches its loss and weight.
        layout: where the samples of several micro-batches are, if the model declares it.

    Attributes:
        loss_tensor: the loss of the whole window, 0-d, detached, on the processing device.
        samples: the weight of the loss in an epoch's mean: the step's samples, or another divisor of the
            loss (class weights, targets that are not ignored).
        stepped: whether the weights moved.
        is_sum: whether the loss is the sum over the samples rather than their mean.
    """

    __slots__ = (
        "_layout", "_model", "_part_losses", "_parts", "_values", "is_sum", "loss_tensor", "samples",
        "stepped",
    )  # fmt: skip

    def __init__(
        self,
        model: AbstractModel,
        parts: Sequence[Part],
        loss_tensor: torch.Tensor,
        samples: float | torch.Tensor,
        stepped: bool,
        *,
        is_sum: bool = False,
        part_losses: Sequence[PartLoss] = (),
        layout: Layout | None = None,
    ) -> None:
        self._model = model
        self._parts: Sequence[Part] | None = parts
        self._values: dict[str, Any] = {}
        self._part_losses = part_losses
        self._layout = layout
        self.loss_tensor = loss_tensor
        self.samples = samples
        self.stepped = stepped
        self.is_sum = is_sum

    def __getitem__(self, key: str) -> Any:
        values = self._values
        if key in values:
            return values[key]
        if key == "loss":
            value: Any = self.loss_tensor.item()
        elif key == "target":
            value = self._whole(1)
        elif key == "prediction":
            value = self._prediction()
        else:
            raise KeyError(key)
        values[key] = value
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(("loss",) if self._parts is None else ("prediction", "target", "loss"))

    def __len__(self) -> int:
        return 1 if self._parts is None else 3

    def __repr__(self) -> str:
        return f"StepOutput({dict(self)!r})"

    @property
    def mean_loss(self) -> float:
        """The loss that runs report: the mean over the samples, also of a loss that sums."""
        loss: float = self["loss"]
        if not self.is_sum:
            return loss
        return loss / float(self.samples) if self.samples else math.nan

    def by_part(self) -> Sequence[StepOutput]:
        """Return an output for each micro-batch; shapes of predictions may differ."""
        parts = self._parts
        if parts is not None and len(parts) == 1:
            return (self,)
        parts, whole = self._kept(), self.loss_tensor
        losses = self._part_losses or [(whole, self.samples)] * len(parts)
        return [
            StepOutput(
                self._model,
                (part,),
                loss if isinstance(loss, torch.Tensor) else whole.new_full((), loss),
                samples,
                self.stepped,
                is_sum=self.is_sum,
            )
            for part, (loss, samples) in zip(parts, losses, strict=True)
        ]

    def release(self) -> None:
        """Discard predictions and targets, which neither metrics nor callbacks will read."""
        self._parts = None
        self._values = {}

    def _kept(self) -> Sequence[Part]:
        if self._parts is None:
            raise ArgusError(
                "the step output has no predictions and targets, since nothing in this run was known to read "
                "them and so they were not kept; set reads_predictions = True in the class of the callback "
                "that reads them"
            )
        return self._parts

    def _whole(self, place: int) -> Any:
        """Return the predictions (place 0) or targets (place 1) of all parts, detached and joined."""
        parts = self._kept() if self._parts is None else self._parts
        if len(parts) == 1:
            return deep_detach(parts[0][place])
        values = [deep_detach(part[place]) for part in parts]
        if self._layout is None:
            return deep_cat(values)
        return self._layout.joined_targets(values) if place else self._layout.joined_predictions(values)

    def _prediction(self) -> Any:
        parts = self._parts
        if parts is not None and len(parts) == 1:
            return self._model.transform_prediction(deep_detach(parts[0][0]))
        joined = self._whole(0)
        if isinstance(joined, list) and not isinstance(self._kept()[0][0], list):  # parts of several shapes
            return [self._model.transform_prediction(part) for part in joined]
        return self._model.transform_prediction(joined)
