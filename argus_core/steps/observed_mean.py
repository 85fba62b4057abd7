"""The mean that a loss derived from one of torch's takes in its own ``forward``, observed on a few samples.

Whether it averages as its base class does cannot be read off the class. Its values can tell: those of two
parts of a batch, times the right divisors, add up to that of both.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from argus_core.errors import ArgusWarning
from argus_core.steps.reduction import (
    CLASS_WEIGHTED,
    OBSERVED,
    OF_ELEMENTS,
    TORCHS,
    count_kept,
    count_targets,
    ignored_target,
    own_divisor,
)
from argus_core.tensors.batch import deep_map
from argus_core.tensors.rng import own_random_numbers

__all__ = ["observe"]

_Sample = tuple[Any, Tensor]
_Divisor = Callable[[Any, Tensor], "float | Tensor"]

_TOLERANCE = 1e-4
_ROWS = 4  # a part has two copies of so many samples
_FORWARDS = frozenset(vars(kind).get("forward") for kind in TORCHS)


def observe(loss: Any, prediction: Any, target: Any) -> bool:
    """Observe the mean of a loss derived from one of torch's with its own ``forward`` and no ``divisor``.

    Returns whether the loss is such a loss; `OBSERVED` then has its mean, if it could be determined.

    Args:
        loss: of the model.
        prediction: of a batch.
        target: of the batch.
    """
    base = _base(loss)
    if base is None or loss in OBSERVED or own_divisor(loss) is not None:
        return False
    if base.forward in OF_ELEMENTS and loss.reduction == "mean":
        OBSERVED[loss] = _elements
    if isinstance(target, Tensor) and target.ndim and target.numel():
        with own_random_numbers(0), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _fitting(loss, prediction, target)
        if found:
            OBSERVED[loss] = found[0]
        elif found is not None:
            _warn(loss, base)
    return True


def _base(loss: Any) -> Any:
    """Return the class of torch that a loss with its own ``forward`` is derived from, or ``None``."""
    kind = type(loss)
    if kind in TORCHS or getattr(kind, "forward", None) in _FORWARDS:
        return None
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


def _fitting(loss: Any, prediction: Any, target: Tensor) -> list[_Divisor | None] | None:
    """Return the divisors by which parts add up, the best first, or ``None`` if the loss cannot be tried."""
    trial = _copied(loss)
    classes = isinstance(loss, CLASS_WEIGHTED) and not target.is_floating_point()
    for ignores in (True, False) if classes and trial else (False,):
        whole = _samples(loss, prediction, target, ignores)
        parts = [whole, _cut(whole, slice(None, -1)), _cut(whole, slice(-1, None))]
        values = [_value(trial, each) for each in parts]
        if all(map(math.isfinite, values)):
            break
    else:
        return None
    targets = [part[1] for part in parts]
    found = [each for each in _divisors(loss, classes) if _adds_up(loss, each, values, targets)]
    if _rows in found and target.ndim > 1 and _grows_with_length(trial, whole, values[0]):
        found.insert(0, _rows)
    return found


def _divisors(loss: Any, classes: bool) -> list[_Divisor | None]:
    """Return what a loss may divide by; ``None`` is a sum. Where several fit, torch's own is the first."""
    own: list[_Divisor | None] = [count_targets] if isinstance(loss, CLASS_WEIGHTED) else []
    return [*own, *([_kept] if classes else []), _elements, _rows, None]


def _kept(loss: Any, target: Tensor) -> float | Tensor:
    return count_kept(target, ignored_target(loss))


def _elements(loss: Any, target: Tensor) -> int:
    return target.numel()


def _rows(loss: Any, target: Tensor) -> int:
    return target.size(0)


def _adds_up(loss: Any, divisor: _Divisor | None, values: list[float], targets: list[Tensor]) -> bool:
    counts = [1.0 if divisor is None else float(divisor(loss, target)) for target in targets]
    whole, *parts = (value * count for value, count in zip(values, counts, strict=True))
    return abs(sum(parts) - whole) <= _TOLERANCE * abs(whole)


def _copied(loss: Any) -> Any:
    """Return a copy of a loss on the CPU, or ``None`` if it has something that cannot be copied."""
    try:
        return copy.deepcopy(loss).cpu().float().eval()
    except Exception:  # of whatever the class keeps
        return None


def _value(trial: Any, sample: _Sample) -> float:
    """Return the loss of samples, or nan if it does not take them."""
    try:
        return float(copy.deepcopy(trial)(*sample))
    except Exception:  # of the user's code, which may not take ignored targets, other lengths or the CPU
        return math.nan


def _samples(loss: Any, prediction: Any, target: Tensor, ignores: bool) -> _Sample:
    """Return a few samples with random predictions in the range of the given ones.

    An update that begins with a network of zeros would have predictions whose losses are all the same.

    Args:
        loss: whose ignored target and class weights count.
        prediction: of a batch.
        target: of the batch.
        ignores: whether every second target of all samples but the last is the ignored one.
    """
    samples = target.size(0)
    rows = torch.arange(min(samples, _ROWS)).repeat(2)
    rows = torch.cat([rows, rows[:1]])

    def few(tensor: Tensor) -> Tensor:
        if tensor.ndim == 0 or tensor.size(0) != samples:
            return tensor.cpu()
        chosen = tensor.detach()[rows.to(tensor.device)].cpu()
        return chosen.float() if chosen.is_floating_point() else chosen

    own = few(target).clone()
    if isinstance(loss, CLASS_WEIGHTED) and not own.is_floating_point():
        _spread_classes(loss, own, target, ignores)
    return deep_map(deep_map(prediction, few), _random), own


def _spread_classes(loss: Any, own: Tensor, target: Tensor, ignores: bool) -> None:
    """Give the last sample and the others classes of unlike weight, and ignore some targets."""
    ignored = ignored_target(loss)
    valid = target[target != ignored]
    own[own == ignored] = valid[0].item() if valid.numel() else int(ignored == 0)
    others = own[:-1].view(-1)
    if loss.weight is not None:
        own[-1], others[1::2] = int(loss.weight.argmax()), int(loss.weight.argmin())
    if ignores:
        others[::2] = ignored


def _random(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point() or not bool(tensor.isfinite().any()):
        return tensor
    finite = tensor[tensor.isfinite()]
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        low = low / 2 or 0.5
    return torch.where(tensor.isfinite(), low + (high - low) * torch.rand_like(tensor), tensor)


def _cut(sample: _Sample, part: slice) -> _Sample:
    prediction, target = sample
    size = target.size(0)
    return deep_map(
        prediction, lambda each: each[part] if each.ndim and each.size(0) == size else each
    ), target[part]


def _grows_with_length(trial: Any, whole: _Sample, value: float) -> bool:
    """Return whether a loss of samples twice as long is another, as of a sum over each sample's elements."""
    prediction, target = whole
    if not isinstance(prediction, Tensor):
        return False
    for dim in reversed(range(1, prediction.ndim)):
        if prediction.size(dim) == target.size(-1):
            longer = torch.cat([prediction] * 2, dim), torch.cat([target] * 2, -1)
            found = _value(trial, longer)
            if math.isfinite(found):
                return abs(found - value) > _TOLERANCE * abs(value)
    return False
