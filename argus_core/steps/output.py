"""What goes into a step and what comes out of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from argus_core.batch import batch_size, deep_cat, deep_detach

if TYPE_CHECKING:
    from argus_core.model import Model

__all__ = ["Part", "PastOutput", "StepOutput", "Window", "count_samples"]

Part = tuple[Any, Any]
"""What came of a micro-batch: its prediction before prediction_transform, and its target."""


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
    ``loss`` is a float. Each is made when it is read first, and reading ``loss`` waits for the device.

    Args:
        model: transforms the prediction.
        parts: for each micro-batch its prediction before prediction_transform, and its target.
        loss_tensor: see below.
        samples: see below.
        stepped: see below.

    Attributes:
        loss_tensor: the loss of the whole window, 0-d, detached, on the processing device.
        samples: how many samples the step saw.
        stepped: whether the weights moved.
    """

    __slots__ = ("_model", "_parts", "_values", "loss_tensor", "samples", "stepped")

    def __init__(
        self, model: Model, parts: Sequence[Part], loss_tensor: torch.Tensor, samples: int, stepped: bool
    ) -> None:
        self._model = model
        self._parts = parts
        self._values: dict[str, Any] = {}
        self.loss_tensor = loss_tensor
        self.samples = samples
        self.stepped = stepped

    def __getitem__(self, key: str) -> Any:
        values = self._values
        if key not in values:
            if key == "loss":
                values[key] = self.loss_tensor.item()
            elif key == "target":
                values[key] = deep_cat([deep_detach(target) for _, target in self._parts])
            elif key == "prediction":
                joined = deep_cat([deep_detach(prediction) for prediction, _ in self._parts])
                values[key] = self._model.transform_prediction(joined)
            else:
                raise KeyError(key)
        return values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("prediction", "target", "loss"))

    def __len__(self) -> int:
        return 3

    def __repr__(self) -> str:
        return f"StepOutput({dict(self)!r})"


def count_samples(micro_batch: Any, part: Part) -> int:
    """Return the number of samples of a micro-batch, or of what came of it if it holds no tensors."""
    if type(micro_batch) in (tuple, list) and micro_batch:  # the usual batch; this runs in every update
        first = micro_batch[0]
        if type(first) is torch.Tensor and first.ndim:
            return first.shape[0]
    return batch_size((micro_batch, part))
