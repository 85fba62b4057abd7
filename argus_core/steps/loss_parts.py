"""The parts of a user's own loss that show which targets count, and how much.

They are losses of torch in it, weights of classes, and targets to ignore.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from argus_core.steps.reduction import CLASS_WEIGHTED, count_targets, ignored_target
from argus_core.tensors.device import widest_float
from argus_core.tensors.listing import tensors_in

__all__ = ["ClassWeights", "CountOfPart", "class_weights", "counting_parts", "form_of", "ignored_targets"]

_USUAL = -100  # the default ignore_index of torch's functions
_FORM = "reduction", "ignore_index"
_LAYERS = "torch.nn."


@dataclass(frozen=True)
class CountOfPart:
    """The divisor of a cross-entropy of torch in a loss.

    Attributes:
        path: of the part in the loss.
    """

    path: str

    def __call__(self, loss: nn.Module, target: Tensor) -> float | Tensor:
        return count_targets(loss.get_submodule(self.path), target)

    def is_mean(self, loss: nn.Module) -> bool:
        """Return whether the part itself divides by it."""
        return bool(loss.get_submodule(self.path).reduction == "mean")


@dataclass(frozen=True)
class ClassWeights:
    """The sum of the weights of the targets' classes, from a tensor in a loss.

    Attributes:
        path: of the module that has the tensor.
        name: of the tensor there.
    """

    path: str
    name: str

    def of(self, loss: Any) -> Tensor:
        """Return the weights, one for each class."""
        weights: Tensor = _attributes(loss, self.path)[self.name]
        return weights

    def __call__(self, loss: Any, target: Tensor) -> float | Tensor:
        weights = self.of(loss).detach().to(target.device)
        is_class = (target >= 0) & (target < len(weights))
        chosen = weights[target.long().clamp(0, len(weights) - 1)] * is_class
        total = chosen.sum(dtype=widest_float(target.device))
        return float(total.item()) if total.is_cpu else total


def counting_parts(loss: Any) -> list[CountOfPart]:
    """Return the divisors of the cross-entropies of torch in a loss."""
    modules = loss.named_modules() if isinstance(loss, nn.Module) else ()
    return [CountOfPart(path) for path, module in modules if path and isinstance(module, CLASS_WEIGHTED)]


def class_weights(loss: Any, prediction: Any) -> list[ClassWeights]:
    """Return the tensors in a loss that may hold one weight for each class of a prediction."""
    sizes = {size for tensor in tensors_in(prediction) for size in tensor.shape[1:]}
    return [
        ClassWeights(path, name)
        for path, attributes in _holders(loss)
        for name, value in attributes.items()
        if isinstance(value, Tensor) and value.ndim == 1 and value.is_floating_point() and len(value) in sizes
    ]


def ignored_targets(loss: Any) -> list[int]:
    """Return the classes that a loss may ignore, by the names of its attributes."""
    if isinstance(loss, CLASS_WEIGHTED):
        return [ignored_target(loss)]
    named = [
        value
        for _, attributes in _holders(loss)
        for name, value in attributes.items()
        if "ignore" in name and type(value) is int
    ]
    return [*named, _USUAL]


def form_of(loss: Any) -> tuple[Any, ...]:
    """Return the attributes of a loss and of the losses in it that may decide what it divides by."""
    return tuple(
        (*map(vars(part).get, _FORM), *_names_of_tensors(part))
        for part in (loss.modules() if _is_module(loss) else ())
        if "reduction" in vars(part) or not type(part).__module__.startswith(_LAYERS)
    )


def _names_of_tensors(part: nn.Module) -> list[str]:
    holders = vars(part), part._buffers, part._parameters
    return [name for each in holders for name, value in each.items() if isinstance(value, Tensor)]


def _is_module(loss: Any) -> bool:
    return isinstance(loss, nn.Module)


def _holders(loss: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the path and the attributes of each module in a loss, or of another callable."""
    paths = [path for path, _ in loss.named_modules()] if _is_module(loss) else [""]
    for path in paths:
        yield path, _attributes(loss, path)


def _attributes(loss: Any, path: str) -> Mapping[str, Any]:
    if isinstance(loss, partial):
        return loss.keywords
    if not isinstance(loss, nn.Module):
        return {**vars(type(loss)), **getattr(loss, "__dict__", {})}
    module = loss.get_submodule(path)
    return {**vars(type(module)), **vars(module), **module._buffers, **module._parameters}
