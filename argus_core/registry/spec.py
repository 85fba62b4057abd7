"""Specs: the choice of a component, written as a name or as a name with parameters."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from argus_core.errors import SpecError

__all__ = ["Spec", "is_spec", "parse_spec", "parse_specs"]


@dataclass(frozen=True)
class Spec:
    """The choice of a component: its short or qualified name, and the parameters for its factory."""

    name: str
    params: dict[str, Any] = field(default_factory=dict)


def parse_spec(kind: str, value: object, where: str = "") -> Spec:
    """Return the spec of ``value``: ``name``, ``(name,)`` or ``(name, {params})``.

    A list is accepted like a tuple, since TOML has no tuples. The name is not looked up.

    Args:
        kind: the kind of the component, for messages.
        value: the user's value.
        where: the name of the value in messages; by default ``params[kind]``.

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
        f"{where} is {reprlib.repr(value)}; give a name or (name, {{params}}){_meant(value)}; "
        f"the names: argus list {kind}"
    )


def parse_specs(kind: str, value: object, where: str = "") -> list[Spec]:
    """Return the specs of ``value``: one spec, or a list of specs.

    A name followed by a dict, ``["amp", {"dtype": "bfloat16"}]``, is always one spec.

    Raises:
        SpecError: ``value``, or one of its items, has another shape.
    """
    where = where or f"params[{kind!r}]"
    if not isinstance(value, list | tuple) or is_spec(value):
        return [parse_spec(kind, value, where)]
    return [parse_spec(kind, item, f"{where}[{position}]") for position, item in enumerate(value)]


def is_spec(value: list[Any] | tuple[Any, ...]) -> bool:
    """Return whether a list is one spec: a name, optionally with its parameters."""
    if not value or not isinstance(value[0], str):
        return False
    return len(value) == 1 or (len(value) == 2 and isinstance(value[1], Mapping))


def _meant(value: object) -> str:
    """Return the spec that a table of a configuration, with its name beside the parameters, stands for."""
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        return ""
    params = {key: item for key, item in value.items() if key != "name"}
    return f", such as {reprlib.repr((value['name'], params))}"


def _checked(name: str, params: Mapping[Any, Any], where: str) -> dict[str, Any]:
    for key in params:
        if not isinstance(key, str):
            raise SpecError(
                f"{where} gives {name!r} a parameter named {key!r}, of type {type(key).__name__}; "
                "parameters are named by strings"
            )
    return dict(params)
