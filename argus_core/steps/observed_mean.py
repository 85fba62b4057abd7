"""The mean that a loss of the user's own takes, observed on a few samples.

Whether a class derived from one of torch's averages as its base class does cannot be read off it, nor what
any other loss divides by. Their values can tell: those of two
parts of a batch, times the right divisors, add up to that of both.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from argus_core.errors import ArgusWarning
from argus_core.steps.loss_parts import ClassWeights, class_weights, counting_parts
from argus_core.steps.loss_trial import HALF, Trial, marks_of, numbers_in
from argus_core.steps.reduction import (
    CLASS_WEIGHTED,
    OBSERVED,
    OF_ELEMENTS,
    TORCHS,
    count_targets,
    ignored_target,
    not_ignored,
    observed,
    own_divisor,
    uncompiled,
)
from argus_core.tensors.rng import own_random_numbers

__all__ = ["observe"]

_Divisor = Callable[[Any, Tensor], "float | Tensor"]

_TOLERANCE = 1e-4
_LARGEST = 2**20  # numbers in a loss that is not derived from one of torch's: a network takes time
_FORWARDS = frozenset(vars(kind)["forward"] for kind in TORCHS if "forward" in vars(kind))


def observe(loss: Any, prediction: Any, target: Any, dim: int = 0) -> bool:
    """Observe the mean of a loss of the user's own without a ``divisor``.

    Returns whether the loss is such a loss; `OBSERVED` then has its mean, if it could be determined. A loss
    that is not derived from one of torch's is otherwise weighted by the samples.

    Args:
        loss: of the model.
        prediction: of a batch.
        target: of the batch.
        dim: the dimension of the target's samples.
    """
    loss = uncompiled(loss)
    base = _base(loss)
    if not _is_own(loss) or own_divisor(loss) is not None:
        return False
    if base and base.forward in OF_ELEMENTS and loss.reduction == "mean":
        OBSERVED[loss] = _Mean(_elements)
    if isinstance(target, Tensor) and target.ndim and target.numel():
        with own_random_numbers(0), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _fitting(loss, prediction, target, dim)
        if found:
            OBSERVED[loss] = found[0] if found[0].divisor else None
        elif found is not None and base:
            _warn(loss, base)
        elif found is not None and (means := [each for each in counting_parts(loss) if each.is_mean(loss)]):
            OBSERVED[loss] = _Mean(means[0])  # a batch with ignored targets only is nan, and weighs nothing
    return True


def _is_own(loss: Any) -> bool:
    """Return whether a loss has code of the user's own, can be observed, and was not."""
    kind = type(loss)
    if kind in TORCHS or getattr(kind, "forward", None) in _FORWARDS or observed(loss) != "":
        return False
    if _base(loss) is None and numbers_in(loss) > _LARGEST:
        return False
    try:
        weakref.ref(loss), hash(loss)
    except TypeError:
        return False
    return True


def _base(loss: Any) -> Any:
    """Return the class of torch that a loss is derived from, or ``None``."""
    kind = type(loss)
    named = (each for each in kind.__mro__ if each in TORCHS and not each.__name__.startswith("_"))
    return next(named, None)


def _warn(loss: Any, base: Any) -> None:
    warnings.warn(
        f"the loss {type(loss).__name__} ({base.__name__}) is neither a sum nor a mean over targets, "
        "elements or samples, so its values for batches do not add up to that of all data; they are weighted "
        f"as those of {base.__name__}; define a method divisor(target) that returns the divisor of its mean",
        ArgusWarning,
        stacklevel=4,
    )


@dataclass(frozen=True)
class _Mean:
    """The mean that a loss may take.

    Attributes:
        divisor: returns it for a loss and a target; ``None`` for a sum.
        excluded: values of targets that do not count.
    """

    divisor: _Divisor | None
    excluded: tuple[float, ...] = ()

    def __call__(self, loss: Any, target: Tensor) -> float | Tensor:
        if self.divisor is None:
            return 1
        if not self.excluded:
            return self.divisor(loss, target)
        kept = torch.ones_like(target, dtype=torch.bool)
        for value in self.excluded:
            kept &= ~target.isnan() if value != value else not_ignored(target, value)
        if self.divisor is count_targets:
            return count_targets(loss, target.long().masked_fill(~kept, ignored_target(loss)))
        if isinstance(self.divisor, ClassWeights):
            return self.divisor(loss, target.long().masked_fill(~kept, -1))
        number = kept.count_nonzero()
        return int(number.item()) if number.is_cpu else number

    def without(self, value: float) -> _Mean:
        """Return the mean for which targets of this value do not count either."""
        return replace(self, excluded=(*self.excluded, value))

    def adds_up(self, loss: Any, values: Sequence[float], targets: Sequence[Tensor]) -> bool:
        """Return whether the values of a whole and of its two parts add up by this divisor."""
        counts = [float(self(loss, target)) for target in targets]
        if counts[0] <= 0:
            return False
        whole, *parts = (value * count for value, count in zip(values, counts, strict=True))
        return abs(sum(parts) - whole) <= _TOLERANCE * abs(whole)


def _elements(loss: Any, target: Tensor) -> int:
    return target.numel()


def _samples(loss: Any, target: Tensor, dim: int) -> int:
    return target.size(dim)


def _fitting(loss: Any, prediction: Any, target: Tensor, dim: int) -> list[_Mean] | None:
    """Return the divisors by which parts add up, the best first, or ``None`` if the loss cannot be tried.

    Losses may leave targets out, which the first batch need not have. So targets of several usual values are
    given to it.
    """
    trial = Trial.of(loss, prediction, target, dim)
    if trial is None:
        return None
    is_base, is_class = isinstance(loss, CLASS_WEIGHTED), not target.is_floating_point()
    weights = class_weights(loss, prediction) if is_class and not is_base else []
    own: list[_Divisor] = [count_targets] if is_base else [*counting_parts(loss), *weights]
    countable = _elements, *([count_targets] if is_base and is_class else weights)
    samples = _Mean(partial(_samples, dim=dim))
    found = [*map(_Mean, own), _Mean(_elements), samples, _Mean(None)]
    for mark in None, *marks_of(loss, target):
        sample = trial.whole if mark is None else trial.marked(mark)
        values, targets = trial.values(sample), [part.target for part in trial.parts(sample)]
        if values is not None:
            without = []
            if mark is not None and mark != HALF:
                without = [each.without(mark) for each in found if each.divisor in countable]
            found = [each for each in (*found, *without) if each.adds_up(loss, values, targets)]
    if samples in found and target.ndim > 1 and trial.grows_with_length():
        found.insert(0, samples)
    return found
