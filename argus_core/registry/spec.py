"""Specs: what is written to choose a component, a name or a name with its parameters."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from argus_core.errors import SpecError

__all__ = ["Spec", "is_spec", "parse_spec", "parse_specs"]


@dataclass(frozen=True)
class Spec:
    """The choice of a component: its short or qualified name, and what its factory gets."""

    name: str
    params: dict[str, Any] = field(default_factory=dict)


def parse_spec(kind: str, value: object, where: str = "") -> Spec:
    """Return the spec that ``value`` writes: ``name``, ``(name,)`` or ``(name, {params})``.

    A list does as well as a tuple, as TOML has no tuples. The name is not looked up.

    Args:
        kind: the kind that is chosen, for messages.
        value: what the user wrote.
        where: how messages call the value: ``params['loss']``, which is also the default.

    Raises:
        SpecError: ``value`` has another shape.
    """
    where = where or f"params[{kind!r}]"
    match value:
        case str() as name if name:
            return Spec(name)
        case [str() as name] if name:
            return Spec(name)
        case [str() as name, Mapping() as params] if name:
            return Spec(name, _checked(name, params, where))
    raise SpecError(
        f"{where} is {reprlib.repr(value)}; give the name of a {kind}, or (name, {{params}}); "
        f"the names: argus list {kind}"
    )


def parse_specs(kind: str, value: object, where: str = "") -> list[Spec]:
    """Return the specs that ``value`` writes: one spec, or a list of them.

    A name followed by a dict, ``["amp", {"dtype": "bfloat16"}]``, is always one spec.

    Raises:
        SpecError: ``value``, or one of its items, has another shape.
    """
    where = where or f"params[{kind!r}]"
    if not isinstance(value, list | tuple) or is_spec(value):
        return [parse_spec(kind, value, where)]
    return [parse_spec(kind, item, f"{where}[{position}]") for position, item in enumerate(value)]


def is_spec(value: list[Any] | tuple[Any, ...]) -> bool:
    """Return whether a list writes one spec, a name and parameters, and not several."""
    return len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], Mapping)


def _checked(name: str, params: Mapping[Any, Any], where: str) -> dict[str, Any]:
    for key in params:
        if not isinstance(key, str):
            raise SpecError(
                f"{where} gives {name!r} a parameter named {key!r}, of type {type(key).__name__}; "
                "parameters are named by strings"
            )
    return dict(params)
