"""Functions by name that make a batch of samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import default_collate

from argus_core.errors import BuildError, ParamsError
from argus_core.registry.factory import build_component

__all__ = ["Pad", "as_lists", "build_collate", "default"]

Collate = Callable[[list[Any]], Any]


def build_collate(spec: Any, where: str) -> Collate:
    """Build the function that a spec chooses; ``where`` is the beginning of messages.

    Raises:
        BuildError: the component builds an object that cannot be called.
    """
    collate: Any = build_component("collate", spec, where)
    if not callable(collate):
        raise BuildError(
            f"{where} builds a {type(collate).__name__}, which cannot be called; its factory must return a "
            "function of a list of samples"
        )
    found: Collate = collate
    return found


def default() -> Collate:
    """Return torch's default_collate, which stacks tensors and numbers of equal shape."""
    return default_collate


def as_lists() -> Collate:
    """Return a function that stacks nothing: a list of inputs and a list of targets, as detection takes.

    Samples (input, target) become the tuple ([input, ...], [target, ...]), others one list.
    """
    return _listed


class Pad:
    """Pads inputs of several lengths to the longest of the batch, and stacks them.

    Tensors, arrays and lists of numbers are padded at the end of their first dimension; so are targets of
    several lengths. Everything else is collated by torch's default_collate.

    Args:
        value: fills shorter inputs.
        target_value: fills shorter targets, such as -100, which CrossEntropyLoss ignores.
        lengths: make the input a pair: the padded inputs (batch, longest, ...), and their lengths (batch,),
            int64.
    """

    exact_types = True

    def __init__(self, value: float = 0.0, target_value: float | None = None, lengths: bool = False) -> None:
        self.value = value
        self.target_value = target_value
        self.lengths = lengths

    def __call__(self, samples: list[Any]) -> Any:
        """Return the batch."""
        if not isinstance(samples[0], list | tuple):
            return self._inputs(samples)
        inputs, *others = zip(*samples, strict=True)
        return [self._inputs(inputs), *map(self._targets, others)]

    def _inputs(self, inputs: Sequence[Any]) -> Any:
        padded = _padded(inputs, self.value)
        if not self.lengths:
            return padded
        if not isinstance(padded, Tensor) or padded.ndim < 2:
            raise ParamsError(
                f"collate 'pad' has lengths=True, and an input is of type {type(inputs[0]).__name__}, which "
                "has none; give inputs as tensors with a first dimension, or leave lengths out"
            )
        return padded, torch.tensor([*map(len, inputs)])

    def _targets(self, targets: Sequence[Any]) -> Any:
        if self.target_value is None and len(set(_lengths(targets))) > 1:
            raise ParamsError(
                "collate 'pad' has no target_value, and targets have several lengths; give "
                "target_value=-100, which CrossEntropyLoss ignores, or the value that the loss ignores"
            )
        return _padded(targets, 0.0 if self.target_value is None else self.target_value)


def _listed(samples: list[Any]) -> Any:
    if not isinstance(samples[0], list | tuple):
        return list(samples)
    return tuple(map(list, zip(*samples, strict=True)))


def _padded(values: Sequence[Any], fill: float) -> Any:
    """Return values stacked, sequences padded to the longest; at any depth of mappings."""
    if isinstance(values[0], Mapping):
        return {key: _padded([each[key] for each in values], fill) for key in values[0]}
    if not _lengths(values):
        return default_collate(list(values))
    return pad_sequence([torch.as_tensor(each) for each in values], batch_first=True, padding_value=fill)


def _lengths(values: Sequence[Any]) -> list[int]:
    """Return the lengths of sequences; an empty list if one value is not a sequence of numbers."""
    is_sequence = all(
        each.ndim > 0
        if isinstance(each, Tensor | numpy.ndarray)
        else isinstance(each, list | tuple) and all(isinstance(item, int | float) for item in each)
        for each in values
    )
    return [*map(len, values)] if is_sequence else []
