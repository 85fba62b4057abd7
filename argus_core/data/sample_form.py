"""The form of a sample: the shape and dtype of each tensor of a batch, without the samples' dimension."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from argus_core.errors import ParamsError
from argus_core.tensors.dimensions import ENTRIES, BatchDim, dim_of, place_of
from argus_core.tensors.listing import kind_of

__all__ = ["is_sample_form", "sample_form"]

_MOST_LEVELS = 8
_MOST_VALUES = 1000
_LONGEST = 200  # characters of a key
_MOST_DIMENSIONS = 64
_MOST_SIZE = 2**53


def sample_form(batch: Any, dim: BatchDim = None) -> Any:
    """Return the form of a sample of ``batch``, nested like it, or ``None`` if a checkpoint cannot hold it.

    Args:
        batch: any nesting of tuples, lists and mappings.
        dim: the declared dimension of the samples, if any.
    """
    try:
        form = _form(batch, 0 if dim is None else dim, is_declared=dim is not None, is_top=True)
    except ParamsError:  # of a class that counts samples in its own way
        return None
    return form if is_sample_form(form) else None


def is_sample_form(form: Any) -> bool:
    """Return whether a value has the form that `sample_form` returns."""
    left = [(form, _MOST_LEVELS)]
    count = 0
    while left:
        value, levels = left.pop()
        count += 1
        if count > _MOST_VALUES or not _is_allowed(value, levels):
            return False
        if isinstance(value, list):
            left += [(each, levels - 1) for each in value]
        elif isinstance(value, dict) and not _is_tensor(value):
            left += [(each, levels - 1) for each in value.values()]
    return True


def _is_allowed(value: Any, levels: int) -> bool:
    if isinstance(value, list):
        return levels > 0 and len(value) <= _MOST_VALUES
    if isinstance(value, dict):
        return levels > 0 and all(isinstance(key, str) and len(key) <= _LONGEST for key in value)
    return value is None or (isinstance(value, str) and len(value) <= _LONGEST)


def _is_tensor(value: dict[str, Any]) -> bool:
    shape = value.get("shape")
    return (
        value.keys() == {"shape", "dtype"}
        and isinstance(value["dtype"], str)
        and len(value["dtype"]) <= _LONGEST
        and isinstance(shape, list)
        and len(shape) <= _MOST_DIMENSIONS
        and all(type(size) is int and 0 <= size <= _MOST_SIZE for size in shape)
    )


def _form(value: Any, dim: BatchDim, is_declared: bool = True, is_top: bool = False) -> Any:
    """Return the form of a sample in a value; without ``dim`` the value is one sample's, or every one's."""
    if isinstance(value, Tensor):
        shape = list(value.shape)
        if shape and dim is not None:
            del shape[place_of(dim, value)]
        return {"shape": shape, "dtype": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, Mapping):
        return {
            str(key): _form(each, dim_of(dim, key, len(value)), is_declared) for key, each in value.items()
        }
    if not isinstance(value, list | tuple):
        return type(value).__name__
    if dim == ENTRIES or (not is_declared and kind_of(value, is_top) in ("samples", "plain")):
        return _form(value[0], None) if value else None
    return [_form(each, dim_of(dim, index, len(value)), is_declared) for index, each in enumerate(value)]
