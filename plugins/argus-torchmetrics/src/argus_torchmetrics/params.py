"""Conversion of plain data, as in a configuration, to parameters of torchmetrics."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import torch
import torchmetrics
from torchmetrics.functional import audio

from argus_core import ParamsError
from argus_core.authors import near

__all__ = ["suited"]


def suited(cls: type[torchmetrics.Metric], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters for a class: lists become tuples or tensors, and names become functions.

    Raises:
        ParamsError: torchmetrics has no function of that name.
    """
    annotations = {name: str(each.annotation) for name, each in inspect.signature(cls).parameters.items()}
    return {name: _suited(name, value, annotations.get(name, "")) for name, value in params.items()}


def _suited(name: str, value: Any, annotation: str) -> Any:
    if isinstance(value, list) and re.search("[Tt]uple", annotation) and not _takes_lists(annotation):
        return tuple(value)
    if isinstance(value, list) and "Tensor" in annotation and not _takes_lists(annotation):
        return torch.tensor(value, dtype=torch.get_default_dtype())
    if isinstance(value, str) and name == "metric_func":
        return _function(value)
    return value


def _takes_lists(annotation: str) -> bool:
    return re.search("[Ll]ist|Sequence|Callable", annotation) is not None


def _function(name: str) -> Any:
    if name not in audio.__all__:
        raise ParamsError(
            f"torchmetrics.functional.audio has no {name!r}{near(name, audio.__all__)}; give one of its "
            "functions by name, such as 'scale_invariant_signal_distortion_ratio'"
        )
    return getattr(audio, name)
