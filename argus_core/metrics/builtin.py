"""The built-in metrics: loss, accuracy, top-k accuracy, mean absolute and mean squared error."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from operator import eq
from typing import Any

import torch

from argus_core.errors import ParamsError
from argus_core.metrics.metric import MeanMetric
from argus_core.steps.output import StepOutput
from argus_core.steps.reduction import count_kept, few_classes, not_ignored
from argus_core.tensors.device import widest_float
from argus_core.tensors.samples import UnknownSizeError, batch_size

__all__ = ["MAE", "MSE", "Accuracy", "Loss", "TopKAccuracy"]

_IGNORED = -100  # the default ignore_index of torch's losses
_CLASSES = "(batch, classes, ...) with integer targets (batch, ...)"
_BINARY = "probabilities (batch,) or (batch, 1) with as many targets 0 or 1"


class Loss(MeanMetric):
    """The mean loss, weighted by the loss's divisor: samples, class weights or targets that are not ignored.

    It does not depend on how the data are split into batches. For a loss that sums it is the mean over the
    samples.
    """

    name = "loss"
    better = "min"
    reads_predictions = False

    def update(self, step_output: Mapping[str, Any]) -> None:
        """Add a step's loss."""
        self.updates += 1
        loss: Any
        weight: Any
        if isinstance(step_output, StepOutput):
            loss, weight, is_sum = step_output.loss_tensor, step_output.samples, step_output.is_sum
            if loss.is_cpu and type(weight) is not torch.Tensor:
                loss = loss.item()
        else:  # from a train_step or val_step that the user overrides
            loss, weight, is_sum = _read(step_output, "loss", self.name), _samples(step_output), False
        if type(loss) is not float and isinstance(loss, torch.Tensor):
            self._add_on_device(loss.detach(), weight, is_sum)
        elif weight:  # the mean loss of no samples, or of only ignored targets, is nan
            self.total += loss if is_sum else loss * weight
            self.count += weight

    def _add_on_device(self, loss: torch.Tensor, weight: Any, is_sum: bool) -> None:
        device = loss.device
        if not isinstance(weight, torch.Tensor):
            if weight:
                self.total = _double(self.total, device).add(loss, alpha=1 if is_sum else weight)
                self.count += weight
            return
        weight = weight.to(device, widest_float(device))
        loss = loss.to(weight.dtype)
        part = loss if is_sum else loss * weight
        self.total = _double(self.total, device) + torch.where(weight != 0, part, torch.zeros_like(part))
        self.count = self.count + weight


class _ShareMetric(MeanMetric):
    """Abstract share of correct predictions, without the ignored targets."""

    ignore_index: int | None

    def _count(self, is_right: torch.Tensor, target: torch.Tensor) -> None:
        """Add targets and correct predictions; ``is_right`` has at most one true entry for each target."""
        self.updates += 1
        ignored = self.ignore_index
        if ignored is not None and ignored >= 0:  # a prediction is never negative
            kept = not_ignored(target, ignored)
            is_right = is_right & (kept if is_right.ndim == kept.ndim else kept.unsqueeze(1))
        right = is_right.count_nonzero()  # takes half the time of a sum
        self.total = self.total + (right.item() if right.is_cpu else right)
        self.count = self.count + count_kept(target, ignored)


class Accuracy(_ShareMetric):
    """Accuracy: the share of correct predictions.

    Predictions ``(batch, classes)`` or ``(batch, classes, ...)`` are logits or probabilities; their targets
    are integers ``(batch, ...)``. Predictions ``(batch,)`` or ``(batch, 1, ...)`` are probabilities of class
    1; their targets are 0 or 1.

    Args:
        threshold: a binary prediction above it is class 1; 0 for logits.
        name: the metric's name instead of ``accuracy``.
        ignore_index: the target that is not counted, as in torch's cross-entropy; ``None`` counts all.
    """

    name = "accuracy"
    exact_types = True

    def __init__(
        self, threshold: float = 0.5, name: str | None = None, ignore_index: int | None = _IGNORED
    ) -> None:
        super().__init__(name)
        self.threshold = threshold
        self.ignore_index = _checked_ignored(self.name, ignore_index)

    def update(self, step_output: Mapping[str, Any]) -> None:
        """Count a step's correct predictions."""
        prediction, target = _tensors(step_output, self.name)
        if prediction.ndim > 1 and prediction.shape[1] != 1:
            predicted = prediction.argmax(1)
        else:
            predicted, target = _binary(prediction, target)
            predicted = predicted > self.threshold
            if target.is_cpu and target.is_floating_point() and not self.updates:
                self._check_binary(target)
        if predicted.shape != target.shape:
            raise _misfit(self.name, step_output, f"{_CLASSES}, or {_BINARY}")
        classes, ignored = few_classes(target), self.ignore_index
        if classes is None or ignored is None or ignored >= 0:
            self._count(predicted == target, target)
            return
        self.updates += 1
        self.total += sum(map(eq, predicted.tolist(), classes))
        self.count += len(classes) - classes.count(ignored)

    def _check_binary(self, target: torch.Tensor) -> None:
        """Check floating-point targets, once an epoch, and only where reading them waits for nothing."""
        kept = target[not_ignored(target, self.ignore_index)]
        others = kept[(kept != 0) & (kept != 1)]
        if others.numel():
            raise ParamsError(
                f"metric {self.name!r} got the target {others[0].item():g}; targets of a binary prediction "
                "are 0 or 1; choose 'mae' or 'mse' for a regression"
            )


class TopKAccuracy(_ShareMetric):
    """Top-k accuracy: the share of targets that are among the ``k`` highest predictions.

    Predictions ``(batch, classes, ...)`` are logits or probabilities; targets ``(batch, ...)`` are integers.

    Args:
        k: the number of highest predictions.
        name: the metric's name instead of ``top_k_accuracy``.
        ignore_index: the target that is not counted, as in torch's cross-entropy; ``None`` counts all.
    """

    name = "top_k_accuracy"
    exact_types = True

    def __init__(self, k: int = 5, name: str | None = None, ignore_index: int | None = _IGNORED) -> None:
        super().__init__(name)
        if type(k) is not int or k < 1:
            raise ParamsError(f"top_k_accuracy takes k >= 1, not {k!r}")
        self.k = k
        self.ignore_index = _checked_ignored(self.name, ignore_index)

    def update(self, step_output: Mapping[str, Any]) -> None:
        """Count a step's targets that are among the highest predictions."""
        prediction, target = _tensors(step_output, self.name)
        if prediction.ndim < 2 or prediction.shape[:1] + prediction.shape[2:] != target.shape:
            raise _misfit(self.name, step_output, _CLASSES)
        if prediction.shape[1] < self.k:
            raise ParamsError(
                f"metric {self.name!r} has k={self.k}, and there are {prediction.shape[1]} classes; choose a "
                "smaller k"
            )
        self._count(prediction.topk(self.k, dim=1).indices == target.unsqueeze(1), target)


class _ErrorMetric(MeanMetric):
    """Abstract mean over all elements of a function of prediction - target; both have one shape."""

    better = "min"

    def update(self, step_output: Mapping[str, Any]) -> None:
        """Add a step's errors."""
        prediction, target = _tensors(step_output, self.name)
        if prediction.shape != target.shape:  # they would broadcast
            raise _misfit(self.name, step_output, "equal shapes; squeeze or unsqueeze one of them")
        if prediction.dtype not in (torch.float32, torch.float64):
            prediction = prediction.float()  # the square of 256 is out of float16's range
        if target.dtype is torch.bool:  # booleans cannot be subtracted
            target = target.float()
        error = self.error(prediction.detach() - target)
        total = error.sum(dtype=widest_float(error.device))
        self.total = self.total + (total.item() if total.is_cpu else total)
        self.count += target.numel()
        self.updates += 1

    @abstractmethod
    def error(self, difference: torch.Tensor) -> torch.Tensor:
        """Return the error of each element."""


class MAE(_ErrorMetric):
    """The mean absolute error over all elements; prediction and target have one shape."""

    name = "mae"

    def error(self, difference: torch.Tensor) -> torch.Tensor:
        """Return the absolute differences."""
        return difference.abs()


class MSE(_ErrorMetric):
    """The mean squared error over all elements; prediction and target have one shape."""

    name = "mse"

    def error(self, difference: torch.Tensor) -> torch.Tensor:
        """Return the squared differences."""
        return difference.square()


def _tensors(step_output: Mapping[str, Any], metric: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return prediction and target of a step output."""
    if isinstance(step_output, StepOutput):
        prediction, target = step_output["prediction"], step_output["target"]
    else:
        prediction = _read(step_output, "prediction", metric)
        target = _read(step_output, "target", metric)
    if not (isinstance(prediction, torch.Tensor) and isinstance(target, torch.Tensor)):
        raise ParamsError(
            f"metric {metric!r} takes tensors, and the step output has a {type(prediction).__name__} for "
            f"prediction and a {type(target).__name__} for target; choose a prediction_transform that "
            "returns a tensor, return tensors from forward_loss, or write a Metric that reads them"
        )
    return prediction, target


def _read(step_output: Mapping[str, Any], key: str, metric: str) -> Any:
    try:
        return step_output[key]
    except (KeyError, TypeError) as error:
        if isinstance(step_output, Mapping):
            if key in list(step_output):  # the key exists, and computing its value failed
                raise
            found = f"has no {key!r}"
        else:
            found = f"is a {type(step_output).__name__}"
        raise ParamsError(
            f"metric {metric!r}: the step output {found}; return a mapping with prediction, target and loss"
        ) from error


def _samples(step_output: Mapping[str, Any]) -> int:
    """Return the number of samples of a user's own step, from its target or else its prediction."""
    for value in (step_output.get("target"), step_output.get("prediction")):
        if value is None:
            continue
        try:
            return batch_size(value)
        except UnknownSizeError:
            continue
    return 1


def _checked_ignored(metric: str, ignore_index: Any) -> int | None:
    if ignore_index is not None and type(ignore_index) is not int:
        raise ParamsError(
            f"{metric} takes an integer for ignore_index, or None to count all targets, not {ignore_index!r}"
        )
    return ignore_index


def _binary(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both without the class dimension of size 1, which each may have."""
    if target.ndim > 1 and target.shape[1] == 1 and prediction.ndim in (1, target.ndim):
        target = target.squeeze(1)
    return (prediction.squeeze(1) if prediction.ndim > 1 else prediction), target


def _double(total: float | torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a total as a tensor in the widest dtype, so that small amounts can be added without rounding."""
    if isinstance(total, torch.Tensor):
        return total
    return torch.full((), total, dtype=widest_float(device), device=device)


def _misfit(metric: str, step_output: Mapping[str, Any], accepted: str) -> ParamsError:
    shapes = [tuple(step_output[key].shape) for key in ("prediction", "target")]
    return ParamsError(
        f"metric {metric!r} got predictions of shape {shapes[0]} and targets of shape {shapes[1]}; "
        f"it takes {accepted}"
    )
