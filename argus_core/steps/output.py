"""What goes into a step and what comes out of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from argus_core.abstract_model import AbstractModel
from argus_core.errors import ArgusError
from argus_core.tensors.batch import deep_cat, deep_detach

__all__ = ["Part", "PartLoss", "PastOutput", "StepOutput", "Window"]

Part = tuple[Any, Any]
"""What came of a micro-batch: its prediction before prediction_transform, and its target."""

PartLoss = tuple["torch.Tensor | float", "torch.Tensor | float"]
"""The loss of a micro-batch (detached), and what it counts in the window's."""


class Window(tuple[Any, ...]):
    """Several loader batches that make one update together."""

    __slots__ = ()


@dataclass(frozen=True)
class PastOutput:
    """What a checkpoint knows of the last update before it.

    Attributes:
        stepped: whether the weights moved.
    """

    stepped: bool


class StepOutput(Mapping[str, Any]):
    """What a step returns: ``prediction``, ``target`` and ``loss``.

    ``prediction`` (after prediction_transform, detached) and ``target`` are on the processing device;
    ``loss`` is a float. Each is made when it is read first, and reading ``loss`` waits for the device. Parts
    that cannot be joined, such as sequences padded to several lengths, come as a list. A run lets go of
    predictions and targets that nothing in it reads.

    Args:
        model: transforms the prediction.
        parts: for each micro-batch its prediction before prediction_transform, and its target.
        loss_tensor: see below.
        samples: see below.
        stepped: see below.
        is_sum: see below.
        part_losses: for each micro-batch its loss and what that counts, where there are several.

    Attributes:
        loss_tensor: the loss of the whole window, 0-d, detached, on the processing device.
        samples: what the loss counts in an epoch's mean: the step's samples, or whatever else it is the mean
            over (class weights, targets that are not ignored).
        stepped: whether the weights moved.
        is_sum: whether the loss is a sum over the samples and not their mean.
    """

    __slots__ = (
        "_model", "_part_losses", "_parts", "_values", "is_sum", "loss_tensor", "samples", "stepped",
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
    ) -> None:
        self._model = model
        self._parts: Sequence[Part] | None = parts
        self._values: dict[str, Any] = {}
        self._part_losses = part_losses
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
        """The loss as runs report it: of one that sums, the mean over the samples."""
        loss: float = self["loss"]
        if not self.is_sum:
            return loss
        return loss / float(self.samples) if self.samples else math.nan

    def by_part(self) -> Sequence[StepOutput]:
        """Return an output for each micro-batch, whose predictions need not have one shape."""
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

    def let_go(self) -> None:
        """Forget predictions and targets, which nothing is going to read."""
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
        """Return what stands in that place of the parts, off the graph, as one."""
        parts = self._kept() if self._parts is None else self._parts
        if len(parts) == 1:
            return deep_detach(parts[0][place])
        return deep_cat([deep_detach(part[place]) for part in parts])

    def _prediction(self) -> Any:
        parts = self._parts
        if parts is not None and len(parts) == 1:
            return self._model.transform_prediction(deep_detach(parts[0][0]))
        joined = self._whole(0)
        if isinstance(joined, list) and not isinstance(self._kept()[0][0], list):  # parts of several shapes
            return [self._model.transform_prediction(part) for part in joined]
        return self._model.transform_prediction(joined)
