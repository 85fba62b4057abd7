"""The numbers in the result of a metric, and their names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import torch
from torch import Tensor

from argus_core import BuildError
from argus_torchmetrics.inputs import described

__all__ = ["is_curve", "numbers"]

_MOST = 1000  # more numbers in one line of a log are not readable

_CURVES = re.compile("ROC|PrecisionRecallCurve")
# The names of the members of a tuple, by the end of the name of the class.
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "PrecisionAtFixedRecall": ("precision", "threshold"),
    "RetrievalRecallAtFixedPrecision": ("recall", "k"),
    "RecallAtFixedPrecision": ("recall", "threshold"),
    "SensitivityAtSpecificity": ("sensitivity", "threshold"),
    "SpecificityAtSensitivity": ("specificity", "threshold"),
    "InceptionScore": ("mean", "std"),
    "KernelInceptionDistance": ("mean", "std"),
}
# These have a value for each sample; the metric is their mean.
_OF_SAMPLES = ("BERTScore", "CLIPImageQualityAssessment")


def is_curve(class_name: str) -> bool:
    """Return whether a class computes curves, which are not logged.

    >>> [is_curve(name) for name in ("BinaryROC", "BinaryAUROC", "MulticlassPrecisionRecallCurve")]
    [True, False, True]
    """
    return bool(_CURVES.fullmatch(re.sub("^(Binary|Multiclass|Multilabel|Retrieval)", "", class_name)))


def numbers(class_name: str, metric: str, value: Any) -> float | dict[str, float]:
    """Return the result of a class as a number or as numbers by name; for curves an empty dict.

    Raises:
        BuildError: the result has too many numbers for a log, or is not a number.
    """
    if is_curve(class_name):
        return {}
    fields = next((names for end, names in _FIELDS.items() if class_name.endswith(end)), ())
    named = list(_flat(value, fields))
    if class_name in _OF_SAMPLES:
        named = [(path, each.float().mean()) for path, each in named]
    total = sum(each.numel() for _, each in named)
    if total > _MOST:
        raise BuildError(
            f"metric {metric!r} ({class_name}) computed {total:,} numbers; a log takes {_MOST:,}; "
            "choose an average over classes and samples, or a metric with fewer numbers"
        )
    flat = [number for _, each in named for number in each.detach().reshape(-1).cpu().double().tolist()]
    names = ["_".join((*path, *map(str, index))) for path, each in named for index in _indices(each)]
    values = dict(zip(names, flat, strict=True))
    return values[""] if list(values) == [""] else values


def _flat(
    value: Any, fields: tuple[str, ...], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Yield the tensors in nested data with their names."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _flat(each, (), (*path, str(key)))
    elif isinstance(value, list | tuple):
        names = fields if len(fields) == len(value) else map(str, range(len(value)))
        for name, each in zip(names, value, strict=True):
            yield from _flat(each, (), (*path, name))
    elif isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, int | float):
        yield path, torch.tensor(float(value), dtype=torch.float64)
    else:
        raise BuildError(
            f"a metric computed {described(value)}, which is not a number; choose another metric"
        )


def _indices(tensor: Tensor) -> Iterator[tuple[int, ...]]:
    return product(*map(range, tensor.shape))
