"""The weights of batches' losses in the mean of a window and of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any

from torch import Tensor

from argus_core.abstract_model import AbstractModel
from argus_core.steps.reduction import (
    CLASS_WEIGHTED,
    DIVISORS,
    OBSERVED,
    OF_ELEMENTS,
    TORCHS,
    count_targets,
    exact,
    mean_divisor,
    mean_divisors,
    uncompiled,
)
from argus_core.tensors.joining import Layout, layout_of
from argus_core.tensors.samples import UnknownSizeError, batch_size
from argus_core.tensors.wholes import Whole

__all__ = ["Weights", "is_pair", "method_of"]

_PAIR = 2
_MOST_COUNTED = 1 << 16  # targets, above which each process counts its own


def method_of(model: AbstractModel, name: str) -> Any:
    """Return a model's method, also where an attribute of the model has that name.

    A user's class may set ``self.batch_size = 32`` for its own use.
    """
    found = getattr(model, name)
    if callable(found):
        return found
    methods = (vars(each).get(name) for each in type(model).__mro__)
    return next(filter(callable, methods)).__get__(model)


class Weights:
    """The weights of batches on the device: the divisors of their losses.

    Args:
        model: its loss and ``batch_size`` give the weights.
        usual: the class with the default ``loss_weight`` and ``loss_reduction``.
        own: a strategy's replacement of ``loss_weight``, if any.

    Attributes:
        known: the loss whose mean is known, since `observe` was called with it.
        divisors: the `DIVISORS` of torch's losses; empty where the model or a strategy replaces them.
    """

    def __init__(
        self,
        model: AbstractModel,
        usual: type[AbstractModel],
        own: Callable[[Any], float | Tensor] | None = None,
    ) -> None:
        self._model = model
        # Looked up once: every update uses them.
        self._batch_size: Callable[[Any], int] = method_of(model, "batch_size")
        self._reduction: Callable[[], str] = method_of(model, "loss_reduction")
        loss_weight = method_of(model, "loss_weight")
        self.known: Any = None
        self._form: Any = None  # of the known loss, if it is the user's own
        self._place: Any = None  # of the target in batches that are not pairs, where `observe` saw it
        self._own = own if own or _is(loss_weight, usual.loss_weight) else loss_weight
        self._counts_samples = _is(self._batch_size, usual.batch_size)
        is_usual = self._own is None and _is(self._reduction, usual.loss_reduction)
        self.divisors = DIVISORS if is_usual else {}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"known": None, "_form": None}  # the mean of a copied loss is not known

    def observe(self, batch: Any, prediction: Any, target: Any) -> bool:
        """Observe the mean of the model's loss; return whether the weights of batches may have changed.

        It does nothing for a loss of torch, nor where the model or a strategy gives the weights.
        """
        if isinstance(target, Tensor) and not target.numel():  # the next batch may tell
            return False
        loss, self._form = self._model.loss, None
        self.known = loss
        if self._own is not None:
            return False
        self._place = _place_of(target, batch)
        if type(loss) in TORCHS:
            return self._place is not None
        # Few losses are observed, and it takes memory.
        from argus_core.steps.loss_parts import form_of
        from argus_core.steps.observed_mean import observe

        layout = self.layout_of([batch], target)
        is_own = observe(loss, prediction, target, layout.place_in(target) if layout else 0)
        self._form = form_of(loss) or None
        return is_own or self._place is not None

    def is_new(self, loss: Any) -> bool:
        """Return whether the mean of a loss is not known, perhaps since it takes another one by now."""
        if self._form is not None:
            from argus_core.steps.loss_parts import form_of  # as above

            if form_of(self.known) != self._form:
                OBSERVED.pop(uncompiled(self.known), None)
                self.known = self._form = None
        return loss is not self.known

    def _divisor(self, batch: Any) -> float | Tensor:
        """Return the divisor of the loss of a batch, by its target where that is known."""
        loss, count = self._model.loss, self._batch_size
        if self._place is None:
            return mean_divisor(loss, batch, count)
        try:
            pair = None, batch[self._place]
        except (KeyError, IndexError, TypeError):  # another batch is of another form
            return mean_divisor(loss, batch, count)
        return mean_divisor(loss, pair, lambda _: count(batch))

    def is_sum(self) -> bool:
        """Return whether losses are summed rather than averaged."""
        return self._reduction() == "sum"

    def of_window(self, micro_batches: Sequence[Any]) -> Sequence[float | Tensor]:
        """Return the weights of micro-batches whose losses are means."""
        if self._own is None and self._place is not None:
            return [self._divisor(micro_batch) for micro_batch in micro_batches]
        if self._own is None:
            return mean_divisors(self._model.loss, micro_batches, self._batch_size)
        return [exact(self._own(micro_batch)) for micro_batch in micro_batches]

    def of_wholes(self, wholes: Sequence[Whole], own: Sequence[Any], is_sum: bool) -> float | None:
        """Return the weight of a window in all processes, or ``None`` if they have to add up theirs.

        All of them decide alike, by what does not depend on their slices.

        Args:
            wholes: what is known of the whole batches.
            own: the slices of this process.
            is_sum: whether losses are summed, of whose weights there is no use.
        """
        if not wholes or self._own is not None or self._place is not None or not self.divisors:
            return None
        if is_sum:
            return 0.0
        total = 0.0
        for whole, batch in zip(wholes, own, strict=True):
            weight = self._of_whole(whole, batch)
            if weight is None:
                return None
            total += weight
        return total

    def _of_whole(self, whole: Whole, batch: Any) -> float | None:
        loss = uncompiled(self._model.loss)
        if type(loss) not in TORCHS:
            return None
        target = batch[1] if is_pair(batch) else None
        by_samples = whole.samples if self._counts_samples and whole.is_regular else None
        if type(target) is not Tensor:  # of a derived class, only a process's own weight is known
            return None if isinstance(target, Tensor) else by_samples
        if isinstance(loss, CLASS_WEIGHTED):
            known = whole.target
            if known is None or not known.is_cpu or loss.weight is not None or known.numel() > _MOST_COUNTED:
                return None
            return float(count_targets(loss, known))
        if type(loss).forward in OF_ELEMENTS and loss.reduction == "mean":
            if whole.target is not None:
                return whole.target.numel()
            return whole.samples * prod(target.shape[1:]) if whole.is_regular and target.ndim else None
        return by_samples

    def layout_of(self, micro_batches: Sequence[Any], target: Any) -> Layout | None:
        """Return where the samples of micro-batches are, if the model declares it; see `layout_of`.

        Args:
            micro_batches: parts of one window.
            target: of the first.
        """
        return layout_of(micro_batches, target, self._model.batch_dim, self._batch_size)

    def of_batch(self, batch: Any, prediction: Any, target: Any, is_sum: bool) -> float | Tensor:
        """Return the weight of a batch whose loss is known; of a summed loss, its number of samples.

        For a batch of unknown size, such as a graph, the prediction or target gives the number of samples.
        """
        try:
            if is_sum:
                return self._batch_size(batch)
            if self._own is None:
                return self._divisor(batch)
            return exact(self._own(batch))
        except UnknownSizeError:
            for each in (target, prediction):
                try:
                    return batch_size(each)
                except UnknownSizeError:
                    continue
            return 1


def is_pair(batch: Any) -> bool:
    """Return whether a batch is an input and a target."""
    return isinstance(batch, tuple | list) and len(batch) == _PAIR


def _place_of(target: Any, batch: Any) -> Any:
    """Return the key of the target in a batch that is not a pair, or ``None`` if it is not there."""
    if not isinstance(target, Tensor) or is_pair(batch):
        return None
    entries: Iterable[tuple[Any, Any]] = batch.items() if isinstance(batch, Mapping) else ()
    entries = enumerate(batch) if isinstance(batch, tuple | list) else entries
    return next((place for place, value in entries if value is target), None)


def _is(method: Any, function: Any) -> bool:
    return getattr(method, "__func__", None) is function
