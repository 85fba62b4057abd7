"""The values of a step output that are passed to the arguments of a metric."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torchmetrics import Metric

from argus_core import ParamsError

__all__ = ["Inputs", "described", "device_of"]

# A batch is a pair, so the target is a mapping with both.
_BESIDE_TARGET = ("groups", "indexes")


@dataclass(frozen=True)
class Inputs:
    """The sources of the arguments of a metric's ``update``.

    Attributes:
        metric: the name of the metric in messages.
        paths: for each call of ``update``, the source of each argument: a path in the step output, such as
            ``("prediction", "boxes")``, or a value that is not a tuple.
    """

    metric: str
    paths: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, name: str, metric: Metric, chosen: object) -> Inputs:
        """Return the inputs of a metric, by the names of its arguments, with those of its user.

        Raises:
            ParamsError: the choice has another form, or an argument that the metric does not take.
        """
        arguments = _arguments(metric.update)
        own = _checked(name, arguments, {} if chosen is None else chosen)
        if arguments[-1] == "real":  # compares two sets of images, not pairs
            predicted = {arguments[0]: ("prediction",), **own, "real": False}
            return cls(name, (predicted, {arguments[0]: ("target",), "real": True}))
        return cls(name, ({**_usual(arguments), **own},))

    def read(self, step_output: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the arguments of each call of ``update``.

        Raises:
            ParamsError: the step output lacks a value.
        """
        return [
            {
                argument: self._follow(step_output, path) if isinstance(path, tuple) else path
                for argument, path in call.items()
            }
            for call in self.paths
        ]

    def _follow(self, step_output: Mapping[str, Any], path: tuple[str, ...]) -> Any:
        value: Any = step_output
        for depth, key in enumerate(path):
            try:
                value = value[int(key) if _is_numbered(value) else key]
            except (KeyError, IndexError, TypeError, ValueError) as error:
                if isinstance(value, Mapping) and key in list(value):  # computing the value failed
                    raise
                raise ParamsError(
                    f"metric {self.metric!r} needs {'.'.join(path)} of the step output, but "
                    f"{'.'.join(path[:depth]) or 'it'} is {described(value)}; return it, or set inputs"
                ) from error
        return value


def device_of(value: Any) -> Any:
    """Return the device of the first tensor in nested data, or ``None``."""
    if isinstance(value, Tensor):
        return value.device
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return next((device for each in value if (device := device_of(each)) is not None), None)
    return None


def described(value: Any) -> str:
    """Return the description of a value in messages."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} of {', '.join(map(str, value)) or 'nothing'}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def _arguments(update: Callable[..., Any]) -> list[str]:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(update).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind not in kinds]


def _usual(arguments: list[str]) -> dict[str, tuple[str, ...]]:
    """Return the prediction for the first argument, and the target for the second."""
    if arguments[-1] in _BESIDE_TARGET:
        first, second, third = arguments
        return {first: ("prediction",), second: ("target", "target"), third: ("target", third)}
    return dict(zip(arguments, (("prediction",), ("target",)), strict=False))


def _checked(metric: str, arguments: list[str], chosen: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(chosen, Mapping) or not all(map(_is_path, chosen.values())):
        raise ParamsError(
            f"inputs of metric {metric!r} is {chosen!r}; give a path in the step output for each argument, "
            "such as {'preds': 'prediction.logits', 'target': 'target.labels'}"
        )
    unknown = [argument for argument in chosen if argument not in arguments]
    if unknown:
        raise ParamsError(
            f"inputs of metric {metric!r} names {unknown[0]!r}; it takes {', '.join(arguments)}; "
            "name one of those"
        )
    return {argument: tuple(path.split(".")) for argument, path in chosen.items()}


def _is_path(path: object) -> bool:
    return isinstance(path, str) and path.partition(".")[0] in ("prediction", "target")


def _is_numbered(value: Any) -> bool:
    return isinstance(value, list | tuple)
