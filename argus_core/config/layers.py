"""Layers of a configuration: the values of a file override those of its template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from argus_core.config.changes import Spec, change_set, own_choice, position_of, with_params
from argus_core.config.schema import SECTIONS, Sections, check_section, plain_model, read_value
from argus_core.errors import ConfigError

__all__ = ["lay_over"]


def lay_over(sections: Sections, document: Mapping[str, Any], source: str) -> None:
    """Override values in ``sections`` by those of a document, each in its parsed form.

    A table without ``name``, for a key that has chosen a component, sets parameters of that component, as
    ``--set optimizer.lr=0.01`` does. Any other value replaces the key's value.

    Args:
        sections: those of the layer below; empty at first.
        document: sections by name.
        source: the beginning of messages.

    Raises:
        ConfigError: an unknown section or key, or a value that its key does not take.
    """
    for name, section in document.items():
        check_section(name, section, source)
    for name, known in SECTIONS.items():
        # The model's name first: it determines which other keys the section takes.
        for key, value in sorted(document.get(name, {}).items(), key=lambda item: item[0] != "name"):
            below = sections[name].get(key)
            where = f"{source}: [{name}] {key}"
            if key in known and known[key].is_table and isinstance(value, dict):
                sections[name][key] = read_value(sections, name, key, {**(below or {}), **value}, source)
            elif isinstance(below, dict) and _is_table(value) and name == "data":
                _change_sets(below, value, where)
            elif below is not None and _is_table(value) and _has_parameters(sections, name, key, below):
                sections[name][key] = _changed(
                    below if key in known else own_choice(below, where), value, where
                )
            else:
                sections[name][key] = read_value(sections, name, key, value, source)
    for name in document.keys() - SECTIONS.keys():
        _merge(sections.setdefault(name, {}), document[name])  # the plugin's command checks the value


def _is_table(value: Any) -> bool:
    """Return whether a value is a table of parameters; a table with ``name`` chooses a component."""
    return isinstance(value, dict) and value != {} and "name" not in value


def _has_parameters(sections: Sections, section: str, key: str, below: Any) -> bool:
    known = SECTIONS[section].get(key)
    if known is None:  # a model class's own key, or one that read_value rejects
        return isinstance(below, str | list | tuple | dict) and not plain_model(sections)
    return known.kind != ""


def _changed(below: Spec | list[Spec] | dict[str, Any], table: dict[str, Any], where: str) -> Any:
    """Return components, or parameters of a part that the class fixes, updated by the values of ``table``."""
    if isinstance(below, dict):
        _merge(below, table)
        return below
    if not isinstance(below, list):
        return _with_changes(below, table)
    for name, params in table.items():
        position = position_of(below, name, where)
        if not isinstance(params, dict):
            raise ConfigError(f"{where}.{name} is {params!r}; give a table of parameters of {name!r}")
        below[position] = _with_changes(below[position], params)
    return below


def _change_sets(below: dict[str, Any], table: dict[str, Any], where: str) -> None:
    """Add the validation sets of ``table``; one without ``name`` sets parameters of the set below."""
    for name, value in table.items():
        if _is_table(value) and name in below:
            for parameter, each in value.items():
                change_set(below, [name, parameter], each, where)
        else:
            change_set(below, [name], value, where)


def _with_changes(spec: Spec, table: dict[str, Any]) -> Spec:
    name, params = with_params(spec)
    _merge(params, table)
    return (name, params) if params else name


def _merge(table: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        below = table.get(key)
        if isinstance(below, dict) and _is_table(value):
            _merge(below, value)
        else:
            table[key] = value
