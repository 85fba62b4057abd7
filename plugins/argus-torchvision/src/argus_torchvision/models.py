"""torchvision's networks, kind ``nn_module``, with torchvision's names.

Each, such as ``argus_torchvision.models.resnet18``, is created on first access; the names are entry points of
this package.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torchvision import models

from argus_core import ParamsError
from argus_core.authors import near
from argus_torchvision.weights import Construction, Pretrained, choose_weights, enums_of

__all__ = ["network"]

# The names of these parameters in old versions of torchvision, which it still accepts.
_REPLACED = {"pretrained": "weights", "pretrained_backbone": "weights_backbone"}

_UNKNOWN = re.compile(r"unexpected keyword argument '(\w+)'")


def __getattr__(name: str) -> Callable[..., nn.Module]:
    if name in models.list_models():
        return network(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def network(name: str) -> Callable[..., nn.Module]:
    """Return the factory of one of torchvision's networks.

    It takes the parameters of torchvision's builder. ``weights`` and ``weights_backbone`` are names; None,
    the default of both, means random values. Weights are downloaded only if they are used.
    """
    builder = models.get_model_builder(name)

    def build(**params: Any) -> nn.Module:
        return _build(name, builder, params)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = inspect.getdoc(builder)
    build.__wrapped__ = builder  # type: ignore[attr-defined]
    build.__signature__ = _signature(builder)  # type: ignore[attr-defined]
    return build


def _build(name: str, builder: Callable[..., nn.Module], params: Mapping[str, Any]) -> nn.Module:
    for old, new in _REPLACED.items():
        if old in params:
            raise ParamsError(
                f"{old} of nn_module {name!r} is {params[old]!r}; name the weights instead: {new}='DEFAULT'"
            )
    choices = {
        parameter: choose_weights(f"nn_module {name!r}", parameter, enums, params.get(parameter))
        for parameter, enums in enums_of(builder, bool(params.get("quantize"))).items()
    }
    with Construction() as construction:
        chosen = {
            parameter: None if member is None else Pretrained(member, params.get("num_classes"), construction)
            for parameter, member in choices.items()
        }
        try:
            return builder(**{**_said(builder, chosen.get("weights")), **params, **chosen})
        except TypeError as error:
            unknown = _UNKNOWN.search(str(error))
            if unknown is None or unknown[1] not in params:
                raise
            known = list(_parameters(builder))
            hint = near(unknown[1], known) or f"; it takes {', '.join(known)}"
            raise ParamsError(f"nn_module {name!r} does not take {unknown[1]!r}{hint}") from error


def _said(builder: Callable[..., nn.Module], weights: Any) -> dict[str, Any]:
    """Return defaults that torchvision warns about unless they are given."""
    known = _parameters(builder).get("init_weights")
    return {"init_weights": weights is None} if known is not None and known.default is None else {}


def _signature(builder: Callable[..., nn.Module]) -> inspect.Signature:
    signature = inspect.signature(builder)
    parameters = [
        parameter.replace(default=None, annotation="str | None")
        if parameter.name in ("weights", "weights_backbone")
        else parameter
        for parameter in signature.parameters.values()
    ]
    return signature.replace(parameters=parameters)


def _parameters(builder: Callable[..., nn.Module]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a builder, and of the classes that it passes further parameters to."""
    signature = inspect.signature(builder)
    built = signature.return_annotation
    classes = [each for each in getattr(built, "__mro__", ()) if "__init__" in vars(each)]
    callables = [builder, *(each.__init__ for each in classes if each not in (nn.Module, object))]
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    parameters = [each for call in callables for each in inspect.signature(call).parameters.values()]
    return {each.name: each for each in parameters if each.name != "self" and each.kind not in variable}
