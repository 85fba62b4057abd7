"""Parameter groups of an optimizer, chosen by patterns of names, by kind of parameter and by depth.

The options ``groups``, ``no_decay`` and ``layer_decay`` belong to every optimizer whose factory has no
parameter of that name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from argus_core.errors import ParamsError
from argus_core.registry.arguments import signature_of
from argus_core.registry.factory import described
from argus_core.steps.layers import layers_of
from argus_core.steps.parameter_patterns import MOST_PATTERNS, check_matches, is_match, patterns_of

__all__ = ["check_groups", "group_parameters", "split_options"]

_OPTIONS = ("groups", "no_decay", "layer_decay")
_NO_DECAY = "norm_and_bias"
_EXAMPLE = "{ match = 'backbone.*', lr = 1e-4 }"

Groups = list[dict[str, Any]]


def split_options(
    factory: Callable[..., Any], params: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the params that choose parameter groups, and those that the optimizer's factory takes.

    Of the first, ``lr`` is the rate that ``layer_decay`` multiplies.
    """
    signature = signature_of(factory)
    takes = {} if signature is None else signature.parameters
    grouping = {key: params[key] for key in _OPTIONS if params.get(key) is not None and key not in takes}
    rest = {key: value for key, value in params.items() if key not in _OPTIONS or key in takes}
    if grouping:
        grouping["lr"] = rest.get("lr", takes["lr"].default if "lr" in takes else None)
    return grouping, rest


def group_parameters(
    network: nn.Module,
    named: Mapping[str, nn.Parameter],
    options: Mapping[str, Any],
) -> Groups:
    """Return parameter groups in the order of their first parameters, each with a ``name``.

    Args:
        network: its modules are the layers of ``layer_decay``.
        named: the trainable parameters by name, the loss's own as ``loss.<name>``.
        options: from `split_options`.

    Raises:
        ParamsError: an option is invalid, a pattern matches no parameter, or two entries differ about one.
    """
    entries = _entries(options.get("groups", ()))
    chosen = {name: _chosen(name, entries) for name in named}
    for index, (_, patterns, _) in enumerate(entries):
        check_matches(f"groups[{index}] of the optimizer", patterns, network, [*named])
    _check_no_decay(options.get("no_decay"))
    undecayed = _norms_and_biases(network, named) if "no_decay" in options else frozenset()
    scales = _layer_scales(network, named, options["layer_decay"]) if "layer_decay" in options else {}
    groups: dict[Any, dict[str, Any]] = {}
    for name, parameter in named.items():
        labels, values = chosen[name]
        values = dict(values)
        if name in undecayed and "weight_decay" not in values:
            values["weight_decay"], labels = 0.0, (*labels, "no decay")
        if name in scales:
            layer, scale = scales[name]
            values["lr"], labels = _rate(values.get("lr", options["lr"])) * scale, (*labels, f"layer {layer}")
        group = groups.setdefault((labels, *map(repr, values.items())), {"params": [], **values})
        group.setdefault("name", ", ".join(labels) or "others")
        group["params"].append(parameter)
    return list(groups.values())


def check_groups(groups: Groups, build: Callable[[Groups, dict[str, Any]], Optimizer], rest: Any) -> None:
    """Check the options of each group as the optimizer's factory checks its params.

    Args:
        groups: from `group_parameters`.
        build: returns an optimizer of groups with params.
        rest: the params of all groups.

    Raises:
        ArgusError: an option is not the optimizer's, or has a value that the optimizer does not take.
    """
    for group in groups:
        own = {key: value for key, value in group.items() if key not in ("params", "name")}
        alone = build([{"params": group["params"][:1]}], {**rest, **own}) if own else None
        for option in own.keys() - (alone.param_groups[0].keys() if alone else set()):
            raise ParamsError(
                f"the group {group['name']!r} of the optimizer sets {option}, which {type(alone).__name__} "
                "has once for all parameters; set it beside groups"
            )


def _entries(groups: Any) -> list[tuple[str, list[str], dict[str, Any]]]:
    """Return the name, the patterns and the options of each entry of ``groups``."""
    if not isinstance(groups, list | tuple):
        raise ParamsError(f"the optimizer's groups is {described(groups)}; give a list such as [{_EXAMPLE}]")
    entries = []
    for index, entry in enumerate(groups):
        patterns = patterns_of(entry.get("match")) if isinstance(entry, Mapping) else None
        if (
            patterns is None
            or "params" in entry
            or len(entry) < 2
            or not all(isinstance(key, str) for key in entry)
        ):
            raise ParamsError(
                f"groups[{index}] of the optimizer is {described(entry)}; give match, a pattern of parameter "
                f"names or a list of them, and the group's options: {_EXAMPLE}"
            )
        name = entry.get("name", ", ".join(patterns))
        if not isinstance(name, str) or not name:
            raise ParamsError(f"groups[{index}] of the optimizer is named {described(name)}; give a string")
        values = {key: value for key, value in entry.items() if key not in ("match", "name")}
        entries.append((name, patterns, values))
    if sum(len(patterns) for _, patterns, _ in entries) > MOST_PATTERNS:
        raise ParamsError(f"the optimizer's groups have over {MOST_PATTERNS} patterns; give fewer")
    return entries


def _chosen(
    name: str, entries: Sequence[tuple[str, list[str], dict[str, Any]]]
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the names and the joined options of the entries that match a parameter."""
    labels: list[str] = []
    values: dict[str, Any] = {}
    set_by: dict[str, int] = {}
    for index, (label, patterns, options) in enumerate(entries):
        if not is_match(name, patterns):
            continue
        labels.append(label)
        for option, value in options.items():
            if option in values and not _are_equal(values[option], value):
                raise ParamsError(
                    f"groups[{set_by[option]}] and groups[{index}] of the optimizer both match {name!r}, "
                    f"with {option}={described(values[option])} and {option}={described(value)}; narrow one "
                    "of their patterns"
                )
            values[option] = value
            set_by.setdefault(option, index)
    return tuple(labels), values


def _check_no_decay(value: Any) -> None:
    if value not in (None, _NO_DECAY):
        raise ParamsError(
            f"the optimizer's no_decay is {described(value)}; give {_NO_DECAY!r} or leave it out"
        )


def _norms_and_biases(network: nn.Module, named: Mapping[str, nn.Parameter]) -> frozenset[str]:
    """Return the names of biases, of what norms have, and of all other vectors and scalars."""
    of_norms = {
        id(parameter)
        for module in network.modules()
        if "norm" in type(module).__name__.lower()
        for parameter in module.parameters(recurse=False)
    }
    return frozenset(
        name
        for name, parameter in named.items()
        if parameter.ndim < 2 or id(parameter) in of_norms or name.rpartition(".")[2] == "bias"
    )


def _layer_scales(
    network: nn.Module, named: Mapping[str, nn.Parameter], decay: Any
) -> dict[str, tuple[int, float]]:
    """Return for each parameter the number of its layer, from 0 at the input, and its rate's factor."""
    if type(decay) not in (int, float) or not 0 < decay <= 1:
        raise ParamsError(
            f"the optimizer's layer_decay is {described(decay)}; give a factor of the rate from one layer to "
            "the layer before it, above 0 and up to 1, such as 0.75"
        )
    layer_of: dict[int, int] = {}
    last = 0
    for layer, parameters in enumerate(layers_of(network)):
        layer_of |= {id(each): layer for each in parameters if id(each) not in layer_of}
        last = layer
    # Those that only the loss has act after the last layer.
    layers = {name: layer_of.get(id(parameter), last) for name, parameter in named.items()}
    return {name: (layer, decay ** (last - layer)) for name, layer in layers.items()}


def _are_equal(one: Any, other: Any) -> bool:
    """Return whether two options are equal; tensors of several numbers are not compared."""
    try:
        return bool(one is other or one == other)
    except (RuntimeError, ValueError):
        return False


def _rate(lr: Any) -> float:
    try:
        rate = float(lr)
    except (TypeError, ValueError, OverflowError):
        rate = math.nan
    if not math.isfinite(rate):
        raise ParamsError(
            f"layer_decay multiplies the optimizer's lr, which is {described(lr)}; give it, such as lr = 1e-3"
        )
    return rate
