"""torchvision's transforms v2, kind ``transform``, with the names of their classes.

Each, such as ``argus_torchvision.transforms.RandomCrop``, is created on first access, and has torchvision's
parameters. Values that TOML does not have are strings: ``dtype = "float32"``, ``interpolation = "bilinear"``,
``policy = "cifar10"``. The ``transforms`` of `Compose` and similar classes are specs.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from argus_core import ParamsError
from argus_core.authors import FileParam, near
from argus_torchvision.pipelines import build_transforms

__all__ = ["LEFT_OUT", "transform"]

LEFT_OUT = {
    "CutMix": "mixes a batch, not a sample",
    "MixUp": "mixes a batch, not a sample",
    "Identity": "is built in, as that of torch.nn",
    "Lambda": "takes a function, which no file can contain; register a transform of your own",
    "ToTensor": "is deprecated; ToImage and ToDtype with scale = true do the same",
    "Transform": "is the base class of the others",
}
"""The classes of `torchvision.transforms.v2` that are not components, with the reasons."""

_WORK = "sets how often an image is changed"
_FILE_PARAMS = {
    "AugMix": {name: FileParam(_WORK, most=100) for name in ("mixture_width", "chain_depth")},
    "RandAugment": {
        "num_ops": FileParam(_WORK, most=1000),
        "num_magnitude_bins": FileParam("sets how many numbers are computed", most=10_000),
    },
    "RandomIoUCrop": {"trials": FileParam("sets how many crops are tried", most=10_000)},
    "TrivialAugmentWide": {
        "num_magnitude_bins": FileParam("sets how many numbers are computed", most=10_000)
    },
}


def __getattr__(name: str) -> Callable[..., Any]:
    if name in LEFT_OUT or not _is_transform(getattr(v2, name, None)):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return transform(name)


@functools.cache
def transform(name: str) -> Callable[..., Any]:
    """Return the factory of one of torchvision's transforms."""
    cls = getattr(v2, name)

    def build(*args: Any, **params: Any) -> Any:
        given = inspect.signature(cls).bind(*args, **params).arguments
        return cls(**{key: _read(name, key, value) for key, value in given.items()})

    build.__name__ = build.__qualname__ = name
    build.__doc__ = inspect.getdoc(cls)
    build.__wrapped__ = cls  # type: ignore[attr-defined]
    build.__signature__ = inspect.signature(cls)  # type: ignore[attr-defined]
    build.file_params = _FILE_PARAMS.get(name, {})  # type: ignore[attr-defined]
    return build


def _is_transform(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, v2.Transform)


def _read(name: str, parameter: str, value: Any) -> Any:
    """Return a parameter in the form that torchvision takes."""
    where = f"transform {name!r}: {parameter}"
    if parameter == "transforms":
        return build_transforms(value, where)
    if parameter == "dtype":
        return _dtypes(value, where)
    if parameter == "interpolation":
        return _member(v2.InterpolationMode, value, where)
    if parameter == "policy":
        return _member(v2.AutoAugmentPolicy, value, where)
    if name == "LinearTransformation":
        return torch.as_tensor(value)
    return value


def _dtypes(value: Any, where: str) -> Any:
    """Return the dtype of a name, or dtypes by type of tensor for a table of names."""
    if isinstance(value, Mapping):
        return {_tensor_type(key, where): _dtype(each, where) for key, each in value.items()}
    return _dtype(value, where)


def _dtype(value: Any, where: str) -> torch.dtype | None:
    if value is None or isinstance(value, torch.dtype):
        return value
    found = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else None
    if not isinstance(found, torch.dtype):
        known = [key for key, each in vars(torch).items() if isinstance(each, torch.dtype)]
        hint = near(value, known) if isinstance(value, str) else ""
        raise ParamsError(f"{where} is {value!r}, which is not a dtype{hint or '; give one such as float32'}")
    return found


def _tensor_type(key: Any, where: str) -> Any:
    known = {name: getattr(tv_tensors, name) for name in ("Image", "Mask", "BoundingBoxes", "Video")}
    known |= {"Tensor": torch.Tensor, "others": "others"}
    if key not in known:
        raise ParamsError(f"{where} has the key {key!r}; it takes {', '.join(known)}")
    return known[key]


def _member(enum: type[Enum], value: Any, where: str) -> Any:
    if not isinstance(value, str):
        return value
    known = [member.value for member in enum]
    if value not in known:
        raise ParamsError(f"{where} is {value!r}{near(value, known)}; choose {', '.join(map(repr, known))}")
    return enum(value)
