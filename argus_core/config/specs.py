"""Reading the choice of components: a spec, a list of specs, or validation sets by name."""

from __future__ import annotations

from typing import Any

from argus_core.errors import ConfigError
from argus_core.registry.factory import described
from argus_core.registry.spec import is_spec

__all__ = ["read_sets", "read_spec", "read_specs"]


def read_spec(value: Any, where: str) -> str | tuple[str, dict[str, Any]]:
    """Return the parsed form of a spec; ``where`` is the beginning of the message for an invalid one."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, dict):
        params = dict(value)
        name = params.pop("name", None)
        if isinstance(name, str) and name:
            return (name, params) if params else name
    if isinstance(value, list) and is_spec(value):
        return (value[0], dict(value[1])) if len(value) == 2 else str(value[0])
    raise ConfigError(
        f"{where} is {described(value)}; "
        'give a name, ["name", { parameter = value }] or a table that has a name'
    )


def read_sets(value: Any, where: str) -> Any:
    """Return the parsed form of a spec, or of a table of specs by the names of validation sets.

    In such a table no value is a bare name: ``split = "val"`` is a parameter of a missing component.
    """
    if not isinstance(value, dict) or "name" in value or not value:
        return read_spec(value, where)
    sets: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, each in value.items():
        if not isinstance(each, list | dict) or not name.isidentifier():
            raise ConfigError(
                f"{where} is a table without a name, and its {name!r} is {described(each)}; give the table "
                'the name of a dataset, or of datasets, as in val = { clean = ["dataset", {}] }'
            )
        spec = read_spec(each, f"{where}.{name}")
        sets[name] = (spec, {}) if isinstance(spec, str) else spec
    return sets


def read_specs(value: Any, where: str) -> list[str | tuple[str, dict[str, Any]]]:
    """Return the parsed forms of one spec or a list of specs."""
    if not isinstance(value, list) or is_spec(value):
        return [read_spec(value, where)]
    return [read_spec(item, f"{where}[{index}]") for index, item in enumerate(value)]
