"""timm's networks, kind ``nn_module``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import timm
from torch import nn

from argus_core import BuildError, ParamsError, initial_values_wanted
from argus_core.authors import near
from argus_timm.names import check_model_name

__all__ = ["create"]

_UNKNOWN = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")

# Parameters of timm's builders besides those of a network's class.
_TAKEN_BEFORE = ("features_only", "in_chans", "num_classes", "out_indices", "pretrained_strict")


# The places of pretrained weights.
_PLACES = frozenset("custom_load file hf_hub_filename hf_hub_id source state_dict url".split())


def create(
    model_name: str,
    pretrained: bool = False,
    num_classes: int | None = None,
    in_chans: int | None = None,
    pretrained_cfg_overlay: Mapping[str, Any] | None = None,
    cache_dir: str | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build a network of timm with `timm.create_model`.

    Pretrained weights are downloaded only if they are used: for training, but not if the state of a
    checkpoint overwrites them. In the second case files and addresses are ignored.

    Args:
        model_name: a name in `timm.list_models`; ``"resnet18.a1_in1k"`` also chooses the weights.
        pretrained: whether to start with pretrained weights; with other ``num_classes`` or ``in_chans`` than
            theirs, the last or first layer is new or adapted.
        num_classes: the number of logits; 0 for features; by default that of the weights.
        in_chans: the number of channels of the images; by default that of the weights.
        pretrained_cfg_overlay: replaces values in timm's description of the weights: ``{"file": "x.bin"}``.
        cache_dir: the folder for downloaded weights; by default that of timm.
        **kwargs: further parameters of the network's class, such as ``drop_rate`` or ``img_size``.
    """
    label = "nn_module 'timm'"
    check_model_name(label, model_name)
    if not isinstance(pretrained, bool):
        raise ParamsError(f"pretrained of {label} is {pretrained!r}; give true or false")
    _check_files(label, kwargs)
    fetch = pretrained and initial_values_wanted()
    overlay = None if pretrained_cfg_overlay is None else dict(pretrained_cfg_overlay)
    if not fetch:
        cache_dir = None
        overlay = overlay and {key: value for key, value in overlay.items() if key not in _PLACES}
    named = {"num_classes": num_classes, "in_chans": in_chans, "cache_dir": cache_dir}
    try:
        built: nn.Module = timm.create_model(
            model_name, pretrained=fetch, pretrained_cfg_overlay=overlay, **named, **kwargs
        )
    except TypeError as error:
        raise _unknown_parameter(label, model_name, kwargs, error) or error from None
    except Exception as error:
        if not fetch:
            raise
        raise BuildError(
            f"{label} cannot load pretrained weights for {model_name!r}: {_reason(error)}; "
            "connect to the internet, or leave pretrained out"
        ) from error
    return built


def _check_files(label: str, kwargs: Mapping[str, Any]) -> None:
    """Refuse parameters for which timm reads files, also if a caller sets them."""
    for parameter in ("checkpoint_path", "pretrained_cfg"):
        if parameter in kwargs:
            raise ParamsError(
                f"{label} does not take {parameter}; use pretrained_cfg_overlay = {{ file = ... }} with "
                "pretrained = true for weights of your own"
            )


def _unknown_parameter(
    label: str, model_name: str, kwargs: Mapping[str, Any], error: TypeError
) -> ParamsError | None:
    """Return the error for a parameter that the network's class does not take, or None for another error."""
    found = _UNKNOWN.search(str(error))
    if found is None or found[2] not in kwargs:
        return None
    known = {*_TAKEN_BEFORE, *_parameters_of(model_name, found[1])}
    hint = near(found[2], sorted(known)) or f"; it takes {', '.join(sorted(known))}"
    return ParamsError(f"{label} with model_name={model_name!r} does not take {found[2]!r}{hint}")


def _parameters_of(model_name: str, class_name: str) -> list[str]:
    """Return the parameters of a class in the module of a network."""
    module = inspect.getmodule(timm.models.model_entrypoint(model_name.partition(".")[0]))
    cls = getattr(module, class_name, None)
    return [] if cls is None else list(inspect.signature(cls).parameters)


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
