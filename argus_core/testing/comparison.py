"""Comparing nested tensors and plain data, exactly or within a tolerance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["difference"]


def difference(found: Any, expected: Any, tolerance: float = 0.0, where: str = "it") -> str | None:
    """Return a description of the first difference between two values, or ``None`` if they are equal.

    Args:
        found: nested tensors and plain data.
        expected: nested tensors and plain data.
        tolerance: the allowed error of floating point numbers, relative to the largest expected one.
        where: the name of the value in the description.
    """
    if isinstance(expected, Tensor) and isinstance(found, Tensor):
        return _tensor_difference(found, expected, tolerance, where)
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        if found.keys() != expected.keys():
            return f"{where} has {sorted(map(str, found))}, expected {sorted(map(str, expected))}"
        pairs = [(found[key], expected[key], f"{where}[{key!r}]") for key in expected]
    elif isinstance(expected, tuple | list) and isinstance(found, tuple | list):
        if len(found) != len(expected):
            return f"{where} has {len(found)} entries, expected {len(expected)}"
        pairs = [(*both, f"{where}[{i}]") for i, both in enumerate(zip(found, expected, strict=True))]
    elif isinstance(expected, float) and isinstance(found, float | int):
        return difference(
            torch.tensor(float(found)).double(), torch.tensor(expected).double(), tolerance, where
        )
    else:
        return None if _is_same(found, expected) else f"{where} is {found!r}, expected {expected!r}"
    return next(
        (text for one, other, name in pairs if (text := difference(one, other, tolerance, name))), None
    )


def _is_same(found: Any, expected: Any) -> bool:
    # Comparing a library's objects may return something else than a boolean.
    return type(found) is type(expected) and (found == expected or not isinstance(found == expected, bool))


def _tensor_difference(found: Tensor, expected: Tensor, tolerance: float, where: str) -> str | None:
    forms = [f"{str(each.dtype).removeprefix('torch.')}{list(each.shape)}" for each in (found, expected)]
    if forms[0] != forms[1]:
        return f"{where} is {forms[0]}, expected {forms[1]}"
    if torch.equal(found, expected) or not found.numel():
        return None
    ours, theirs = (each.detach().to(_widest(each)) for each in (found, expected))
    equal = (ours == theirs) | (ours.isnan() & theirs.isnan())
    distance = (ours - theirs).abs()
    error = torch.where(equal, torch.zeros_like(distance), distance).max().item()
    scale = theirs.abs().nan_to_num(0, 0, 0).max().item()
    return None if error <= tolerance * max(scale, 1e-300) else f"{where} differs by {error:.3g}"


def _widest(tensor: Tensor) -> torch.dtype:
    return torch.complex128 if tensor.is_complex() else torch.float64
