"""The reduction of losses: the divisors of their means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import partial
from operator import attrgetter, itemgetter, methodcaller, sub
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from argus_core.errors import ParamsError
from argus_core.tensors.device import widest_float
from argus_core.tensors.samples import batch_size

__all__ = [
    "CLASS_WEIGHTED",
    "DIVISORS",
    "OBSERVED",
    "OF_ELEMENTS",
    "TORCHS",
    "ask_others",
    "count_kept",
    "count_targets",
    "exact",
    "few_classes",
    "ignored_target",
    "mean_divisor",
    "mean_divisors",
    "not_ignored",
    "observed",
    "own_divisor",
    "reduction_of",
    "uncompiled",
]

# Their mean divides by the weights of the targets' classes; ignored targets have no weight.
CLASS_WEIGHTED: tuple[type[nn.Module], ...] = tuple(
    getattr(nn, name)
    for name in ("CrossEntropyLoss", "NLLLoss", "LinearCrossEntropyLoss")
    if hasattr(nn, name)
)

# Their mean divides by the number of elements of the target; so does that of a class derived from one of
# them with the same forward.
OF_ELEMENTS: frozenset[Any] = frozenset(
    getattr(nn, f"{name}Loss").forward
    for name in (
        "BCE BCEWithLogits GaussianNLL HingeEmbedding Huber KLDiv L1 MSE MultiLabelSoftMargin PoissonNLL "
        "SmoothL1 SoftMargin"
    ).split()
)

# Looking up a missing method of a module takes as long as a small kernel, in every update.
TORCHS: frozenset[type] = frozenset(
    kind
    for kind in vars(nn.modules.loss).values()
    if isinstance(kind, type) and issubclass(kind, nn.Module) and kind is not nn.Module
)

OBSERVED: MutableMapping[Any, Callable[[Any, Tensor], float | Tensor] | None] = WeakKeyDictionary()
"""The divisor of each loss whose mean was observed, a function of loss and target; ``None`` where it sums."""

_second, _layout = itemgetter(1), attrgetter("dtype", "ndim", "is_cpu")
_PLAIN, _TWO, _TENSORS = {tuple, list}, {2}, {Tensor}
_LISTABLE = {(torch.int64, 1, True)}  # the layout of class indices, one per sample, on a CPU
_FEW = 64  # up to so many targets, counting a list takes a fraction of the time of torch's operations


def mean_divisor(loss: Any, batch: Any, count: Callable[[Any], float] = batch_size) -> float | Tensor:
    """Return the divisor of the mean that ``loss`` takes over ``batch``, a pair (input, target).

    The default is the number of samples. torch's cross-entropies divide by the sum of the class weights of
    the targets that are not ignored; its elementwise losses divide by the number of elements. Any loss may
    define a method ``divisor(target)``. The divisor is a 0-d tensor on the device, so that the caller does
    not wait for it, or a number on a CPU.

    Args:
        loss: of the model, or ``None``.
        batch: on the device.
        count: returns a batch's number of samples; called only where that is the divisor.
    """
    loss = uncompiled(loss)
    target = batch[1] if isinstance(batch, (tuple, list)) and len(batch) == 2 else None
    if isinstance(target, Tensor):
        own = own_divisor(loss)
        if own is not None:
            return exact(own(target))
        if isinstance(loss, CLASS_WEIGHTED):
            return count_targets(loss, target)
        if _is_of_elements(loss):
            return target.numel()
    return count(batch)


def mean_divisors(
    loss: Any, batches: Sequence[Any], count: Callable[[Any], float] = batch_size
) -> Sequence[float | Tensor]:
    """Return the `mean_divisor` of each of ``batches``."""
    loss = uncompiled(loss)
    if own_divisor(loss) is None:
        if _is_of_elements(loss) and _are_pairs(batches):
            return [*map(Tensor.numel, map(_second, batches))]
        if isinstance(loss, CLASS_WEIGHTED) and loss.weight is None:
            counts = _few_kept(batches, ignored_target(loss))
            if counts is not None:
                return counts
    return [mean_divisor(loss, batch, count) for batch in batches]


def uncompiled(loss: Any) -> Any:
    """Return a loss itself where ``torch.compile`` returned another module around it."""
    return loss._modules.get("_orig_mod", loss) if isinstance(loss, nn.Module) else loss


def not_ignored(target: Tensor, ignored: float | None) -> Tensor:
    """Return a mask of the targets that are not the ignored index."""
    # torch compares bytes modulo 256, so 156 would equal -100.
    if ignored is None or (ignored < 0 and target.dtype in (torch.uint8, torch.bool)):
        return torch.ones_like(target, dtype=torch.bool)
    return target != ignored


def exact(weight: Any) -> float | Tensor:
    """Return the weight of a micro-batch that user code returned, numpy's too, as a float or 0-d tensor.

    A tensor on a CPU becomes a float; another comes in the widest dtype, since torch's integers would divide
    in float32.

    Raises:
        ParamsError: it is not a single real number.
    """
    if isinstance(weight, Tensor):
        if weight.numel() == 1 and not weight.is_complex():
            if weight.is_cpu:
                return float(weight.item())
            return weight.to(widest_float(weight.device)).reshape(())
        weight = f"a {weight.dtype} tensor of shape {tuple(weight.shape)}"
    elif hasattr(weight, "__float__"):
        return float(weight)
    raise ParamsError(
        f"a micro-batch weighs {weight}; return a real number or a 0-d tensor from loss_weight, from a "
        "step's micro_batch_weight or from a loss's divisor"
    )


def count_kept(target: Tensor, ignored: int | None) -> int | Tensor:
    """Return how many targets are not ignored: on a CPU a number, elsewhere a 0-d tensor."""
    if ignored is None:
        return target.numel()
    classes = few_classes(target)
    if classes is not None:
        return len(classes) - classes.count(ignored)
    kept = not_ignored(target, ignored).count_nonzero()
    return int(kept.item()) if kept.is_cpu else kept


def few_classes(target: Tensor) -> list[int] | None:
    """Return targets as a list if they are few and on a CPU, where a list is the fastest to count."""
    return target.tolist() if _layout(target) in _LISTABLE and target.numel() <= _FEW else None


def _are_pairs(batches: Sequence[Any]) -> bool:
    """Return whether batches are pairs whose second entry is a tensor."""
    if not {*map(type, batches)} <= _PLAIN or {*map(len, batches)} != _TWO:
        return False
    return {*map(type, map(_second, batches))} == _TENSORS


def _few_kept(batches: Sequence[Any], ignored: int | None) -> list[int] | None:
    """Return how many targets of each batch are not ignored, or ``None`` if a list would not be faster."""
    if not _are_pairs(batches):
        return None
    targets = [*map(_second, batches)]
    if {*map(_layout, targets)} != _LISTABLE:
        return None
    counts = [*map(Tensor.numel, targets)]  # not the samples: the targets of a sequence may be one row
    if max(counts) > _FEW:
        return None
    return [*map(sub, counts, map(methodcaller("count", ignored), map(Tensor.tolist, targets)))]


def own_divisor(loss: Any) -> Callable[[Tensor], Any] | None:
    """Return the function of a target that gives the divisor of a loss, declared or observed, if any."""
    if type(loss) in TORCHS:
        return None
    declared = getattr(loss, "divisor", None)
    if callable(declared):
        return declared  # type: ignore[no-any-return]
    found = observed(loss)
    return partial(found, loss) if callable(found) else None


def reduction_of(loss: Any) -> str:
    """Return the reduction of a loss over samples: observed, or its attribute, ``"mean"`` by default."""
    loss = uncompiled(loss)
    found = "" if type(loss) in TORCHS else observed(loss)
    if found != "":
        return "sum" if found is None else "mean"
    reduction: str = getattr(loss, "reduction", "mean")
    return reduction


def observed(loss: Any) -> Any:
    """Return the entry of a loss in `OBSERVED`; ``""`` if it was not observed."""
    try:
        return OBSERVED.get(loss, "")
    except TypeError:  # of a class whose objects have no hash, or no weak references
        return ""


def _is_of_elements(loss: Any) -> bool:
    return getattr(type(loss), "forward", None) in OF_ELEMENTS and loss.reduction == "mean"


def count_targets(loss: Any, target: Tensor) -> float | Tensor:
    """Return the divisor of a cross-entropy: the sum of class weights, or the number of distributions."""
    if target.is_floating_point():  # dimension 1 holds the classes' probabilities, as in the prediction
        return target.numel() // max(target.size(1), 1) if target.ndim > 1 else 1
    return (
        count_kept(target, ignored_target(loss))
        if loss.weight is None
        else _sum_of_class_weights(loss, target)
    )


def ignored_target(loss: Any) -> int:
    """Return the target that a cross-entropy ignores: -100 where LinearCrossEntropyLoss has None."""
    ignored: int | None = loss.ignore_index
    return -100 if ignored is None else ignored


def _sum_of_class_weights(loss: Any, target: Tensor) -> float | Tensor:
    weight = loss.weight.detach()
    kept = weight[target.clamp(min=0, max=len(weight) - 1)] * not_ignored(target, ignored_target(loss))
    total = kept.sum(dtype=widest_float(target.device))
    return float(total.item()) if total.is_cpu else total


def _count_elements(loss: Any, target: Any) -> float | Tensor | None:
    return target.numel() if type(target) is Tensor and loss.reduction == "mean" else None


def _count_own(loss: Any, target: Any) -> float | Tensor | None:
    if type(target) is not Tensor or loss.reduction != "mean":
        return None
    weight = loss._buffers.get("weight", loss)  # the attribute takes a microsecond, in every update
    if weight is loss:  # a parameter, for example
        weight = loss.weight
    classes = few_classes(target) if weight is None else None
    return (
        count_targets(loss, target) if classes is None else len(classes) - classes.count(ignored_target(loss))
    )


def ask_others(loss: Any, target: Any) -> None:
    """Return ``None``: the function in place of one of `DIVISORS` for a loss that is not torch's."""


DIVISORS: Mapping[type, Callable[[Any, Any], float | Tensor | None]] = {
    **dict.fromkeys(CLASS_WEIGHTED, _count_own),
    **{kind: _count_elements for kind in TORCHS if vars(kind).get("forward") in OF_ELEMENTS},
}
"""For each of torch's loss classes, the function of loss and target that returns the divisor, or ``None``."""
