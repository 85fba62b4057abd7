"""timm's optimizers, kind ``optimizer``, with timm's names.

Each, such as ``argus_timm.optimizers.lamb``, is created on first access.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from timm.optim import create_optimizer_v2, get_optimizer_class, get_optimizer_info
from torch import nn
from torch.optim import Optimizer

from argus_core.authors import FileParam
from argus_timm.meanings import documentation

__all__ = ["NAMES", "optimizer"]

NAMES = (
    "adabelief",
    "adafactor",
    "adafactorbv",
    "adamp",
    "adan",
    "adopt",
    "kron",
    "lamb",
    "laprop",
    "lars",
    "lion",
    "madgrad",
    "mars",
    "muon",
    "nadamw",
    "novograd",
    "rmsproptf",
    "sgdp",
    "sgdw",
)
"""The optimizers that torch does not have; variants are parameters: ``caution``, ``decoupled_decay``."""

# The defaults of create_optimizer_v2, which override those of the classes.
_DEFAULTS = {"weight_decay": 0.0, "momentum": 0.9}

_FILE_PARAMS = {"muon": {"ns_steps": FileParam("sets how much is computed", most=100)}}


def __getattr__(name: str) -> Callable[..., Optimizer]:
    if name in NAMES:
        return optimizer(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def optimizer(name: str) -> Callable[..., Optimizer]:
    """Return the factory of one of timm's optimizers, which calls `timm.optim.create_optimizer_v2`."""
    cls = get_optimizer_class(name, bind_defaults=False)

    def build(params: Iterable[nn.Parameter], **options: Any) -> Optimizer:
        built: Optimizer = create_optimizer_v2(params, opt=name, **options)
        return built

    build.__name__ = build.__qualname__ = name
    signature = _signature(name, cls)
    text = documentation(cls, [*signature.parameters][1:])
    build.__doc__ = f"{get_optimizer_info(name).description}.\n\n{text}".rstrip()
    build.__wrapped__ = cls  # type: ignore[attr-defined]
    build.__signature__ = signature  # type: ignore[attr-defined]
    build.file_params = _FILE_PARAMS.get(name, {})  # type: ignore[attr-defined]
    return build


def _signature(name: str, cls: type[Optimizer]) -> inspect.Signature:
    info = get_optimizer_info(name)
    defaults = {**_DEFAULTS, **(info.defaults or {})}
    signature = inspect.signature(cls)
    first, *others = signature.parameters.values()
    shown = [first.replace(name="params")]
    for each in others:
        default = defaults.get(each.name, each.default)
        shown.append(each.replace(default=default, kind=inspect.Parameter.KEYWORD_ONLY))
    return signature.replace(parameters=shown)
