"""A copy of a loss that is tried on the CPU, on a few samples of a batch and on parts of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from argus_core.steps.loss_parts import class_weights, ignored_targets
from argus_core.steps.reduction import CLASS_WEIGHTED
from argus_core.tensors.batch import deep_map

__all__ = ["HALF", "Sample", "Trial", "marks_of", "numbers_in"]

_Fill = Callable[[Tensor], Tensor]

_TOLERANCE = 1e-4
_ROWS = 4  # a part has two copies of so many samples
_LAST = 2  # samples in the other part; a mean over the worst half has none of one sample
_LENGTH = 16  # of the other dimensions, such as those of images
_MOST = 2**14  # numbers in a target that is tried whole: the loss is called some dozens of times, on a CPU
_SHARED = 2**16  # parameters of so many numbers are not copied for each value
_LARGEST = 2**26  # a loss with more numbers, such as one with a language model in it, is not copied

HALF = 0.5
"""A target that a loss leaves out only with others between 0 and 1, which are not known."""

_MARKS_OF_FLOATS = 0.0, 1.0, -1.0, math.nan, HALF
_MARKS_OF_CLASSES = 0, -1, 255
_CLEAN = torch.rand_like, torch.ones_like  # a loss may need targets that are 1


class Sample(NamedTuple):
    """A prediction and its target."""

    prediction: Any
    target: Tensor


def marks_of(loss: Any, target: Tensor) -> list[float]:
    """Return the values of targets that losses like to leave out."""
    if target.is_floating_point():
        return [*_MARKS_OF_FLOATS]
    if target.dtype is torch.bool or target.is_complex():
        return []
    limits = torch.iinfo(target.dtype)
    marks = dict.fromkeys([*ignored_targets(loss), *_MARKS_OF_CLASSES])
    return [each for each in marks if limits.min <= each <= limits.max]


class Trial:
    """A copy of a loss on the CPU, and samples that it takes.

    Args:
        copied: the copy.
        whole: the samples.
        dim: the dimension of the samples.

    Attributes:
        whole: the samples, of which none has a target of the `marks_of` the loss, if it can do without.
    """

    def __init__(self, copied: Any, whole: Sample, dim: int) -> None:
        self._loss = copied
        self._dim = dim
        self.whole = whole

    @classmethod
    def of(cls, loss: Any, prediction: Any, target: Tensor, dim: int) -> Trial | None:
        """Return the trial of a loss on a few samples, or ``None`` if it does not take any.

        Args:
            loss: of the model.
            prediction: of a batch.
            target: of the batch.
            dim: the dimension of the target's samples.
        """
        copied = None if target.is_nested or target.layout is not torch.strided else _copied(loss)
        if copied is None:
            return None
        of_each = target.numel() // target.size(dim)
        for rows, length in (_ROWS, _LENGTH), (1, None):
            if length is None and of_each > _MOST:
                break
            for clean in *_CLEAN, None:
                sample = _sample(loss, prediction, target, dim, rows, length, clean)
                if sample is not None:
                    trial = cls(copied, sample, dim)
                    if trial.values(sample) is not None:
                        return trial
        return None

    def values(self, sample: Sample) -> list[float] | None:
        """Return the loss of samples and of their two parts, or ``None`` if it does not take them."""
        values = [self._value(part) for part in self.parts(sample)]
        return values if all(map(math.isfinite, values)) else None

    def parts(self, sample: Sample) -> Sequence[Sample]:
        """Return samples, all but the last ones, and these."""
        first = sample.target.size(self._dim) - _LAST
        return sample, self._cut(sample, 0, first), self._cut(sample, first, _LAST)

    def marked(self, mark: float) -> Sample:
        """Return the samples with a mark in every second target of all but the last ones."""
        target = self.whole.target.clone()
        target[_every_second(target, self._dim)] = mark
        return Sample(self.whole.prediction, target)

    def grows_with_length(self) -> bool:
        """Return whether samples twice as long have another loss, as of a sum over each sample's elements."""
        prediction, target = self.whole
        if not isinstance(prediction, Tensor):
            return False
        value = self._value(self.whole)
        length = max(dim for dim in range(target.ndim) if dim != self._dim)
        for dim in reversed(range(prediction.ndim)):
            if dim != self._dim and prediction.size(dim) == target.size(length):
                longer = Sample(torch.cat([prediction] * 2, dim), torch.cat([target] * 2, length))
                found = self._value(longer)
                if math.isfinite(found):
                    return abs(found - value) > _TOLERANCE * abs(value)
        return False

    def _value(self, sample: Sample) -> float:
        try:
            shared = {id(each): each for each in _parameters(self._loss) if each.numel() > _SHARED}
            return float(copy.deepcopy(self._loss, shared)(*sample))
        except Exception:  # of the user's code, which may not take ignored targets, other lengths or the CPU
            return math.nan

    def _cut(self, sample: Sample, start: int, length: int) -> Sample:
        size = sample.target.size(self._dim)

        def cut(tensor: Tensor) -> Tensor:
            place = _place(tensor, self._dim, size)
            return tensor if place is None else tensor.narrow(place, start, length)

        return Sample(deep_map(sample.prediction, cut), cut(sample.target))


def numbers_in(loss: Any) -> int:
    """Return how many numbers the parameters and buffers of a loss have."""
    buffers = loss.buffers() if isinstance(loss, nn.Module) else ()
    return sum(each.numel() for each in [*_parameters(loss), *buffers])


def _parameters(loss: Any) -> Iterable[Tensor]:
    return loss.parameters() if isinstance(loss, nn.Module) else ()


def _copied(loss: Any) -> Any:
    """Return a copy of a loss on the CPU, or ``None`` if it has something that cannot be copied."""
    if numbers_in(loss) > _LARGEST:
        return None
    try:
        copied = copy.deepcopy(loss)
        return copied.cpu().float().eval() if isinstance(copied, nn.Module) else copied
    except Exception:  # of whatever the class keeps
        return None


def _sample(
    loss: Any, prediction: Any, target: Tensor, dim: int, rows: int, length: int | None, clean: _Fill | None
) -> Sample | None:
    """Return a few samples with random predictions in the range of the given ones, if they can be cut.

    An update that begins with a network of zeros would have predictions whose losses are all the same.
    """
    samples = target.size(dim)
    chosen = torch.arange(min(samples, rows)).repeat(2)
    chosen = torch.cat([chosen, chosen[:_LAST]])
    lengths = {size for place, size in enumerate(target.shape) if place != dim and length and size > length}

    def few(tensor: Tensor) -> Tensor:
        tensor, place = tensor.detach(), _place(tensor, dim, samples)
        for axis, size in enumerate(tensor.shape):
            if axis != place and size in lengths:
                tensor = tensor.narrow(axis, 0, length or size)
        if place is not None:
            tensor = tensor.index_select(place, chosen.to(tensor.device))
        return tensor.cpu().float() if tensor.is_floating_point() else tensor.cpu()

    try:
        own = few(target).clone()
        if clean is not None:
            _clean(loss, own, clean)
        if not own.is_floating_point():
            for weight in _weights_of_classes(loss, prediction)[:1]:
                _spread_classes(weight, own, dim)
        return Sample(deep_map(deep_map(prediction, few), _random), own)
    except Exception:  # of tensors that cannot be cut: ragged, sparse or distributed ones, or of no values
        return None


def _clean(loss: Any, target: Tensor, fill: _Fill) -> None:
    """Replace the targets that a loss may leave out: classes by the next one, others as ``fill`` does."""
    marks = marks_of(loss, target)
    counted = next(each for each in range(1, len(marks) + 2) if each not in marks)
    for mark in marks:
        marked = target.isnan() if mark != mark else target == mark
        target[marked] = fill(target)[marked] if target.is_floating_point() else counted


def _weights_of_classes(loss: Any, prediction: Any) -> list[Tensor]:
    if isinstance(loss, CLASS_WEIGHTED):
        own: Any = loss.weight
        return [] if own is None else [own]
    return [each.of(loss) for each in class_weights(loss, prediction)]


def _spread_classes(weight: Tensor, target: Tensor, dim: int) -> None:
    """Give the last samples and others classes of unlike weight."""
    others = ~_every_second(target, dim)
    target[others] = int(weight.argmin())
    target.narrow(dim, target.size(dim) - _LAST, _LAST).fill_(int(weight.argmax()))


def _every_second(target: Tensor, dim: int) -> Tensor:
    """Return a mask of every second target of all samples but the last ones."""
    mask = torch.zeros_like(target, dtype=torch.bool)
    others = mask.narrow(dim, 0, target.size(dim) - _LAST)
    others.copy_((torch.arange(others.numel()) % 2 == 0).view(others.shape))
    return mask


def _random(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point() or not bool(tensor.isfinite().any()):
        return tensor
    finite = tensor[tensor.isfinite()]
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        low = low / 2 or 0.5
    return torch.where(tensor.isfinite(), low + (high - low) * torch.rand_like(tensor), tensor)


def _place(tensor: Tensor, dim: int, samples: int) -> int | None:
    """Return the dimension of the samples in a tensor of a batch, or ``None`` if it does not hold them."""
    places = (place for place in (dim, 0) if tensor.ndim > place and tensor.size(place) == samples)
    return next(places, None)
