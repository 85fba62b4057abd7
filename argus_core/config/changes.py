"""Changes to a configuration from the command line: ``--set optimizer.lr=0.01``.

A key is written with its section (``fit.num_epochs``) or without (``num_epochs``). After a key that chooses a
component, the path names a parameter: ``optimizer.lr``, ``data.train.split``. Where a key chooses several
components, the path names one of them first: ``step.accumulate.steps``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from argus_core.config.schema import (
    SECTIONS,
    TEMPLATE,
    Sections,
    plain_model,
    read_value,
    unknown_key,
)
from argus_core.config.specs import read_sets, read_spec, read_specs
from argus_core.config.values import check_values, parse_value
from argus_core.errors import ConfigError, near
from argus_core.registry.spec import is_spec

__all__ = [
    "Spec",
    "apply_changes",
    "change_set",
    "own_choice",
    "position_of",
    "with_params",
]

_MOST_PARTS = 64
_LONGEST = 120  # the most characters of a change that messages quote

Spec = str | tuple[str, dict[str, Any]]
Given = dict[tuple[str, ...], str]
"""Changes of a caller by section and path."""


def apply_changes(sections: Sections, changes: Iterable[str], given: Mapping[tuple[str, ...], str]) -> Given:
    """Apply ``changes`` in their order, after those in ``given``, and return them by section and path.

    Raises:
        ConfigError: a change has another form, its key is unknown, its value is invalid for the key, or it
            replaces a value of which an earlier change has set a part.
    """
    applied: Given = {}
    for change in changes:
        path = _apply(sections, change)
        for earlier, text in {**given, **applied}.items():
            if path == earlier[: len(path)] and path != earlier:
                raise ConfigError(
                    f"{_quoted(change)} would undo {_quoted(text)}, which comes before it; reverse their "
                    "order, or leave one out"
                )
        applied[path] = change
    return applied


def _apply(sections: Sections, change: str) -> tuple[str, ...]:
    """Apply the change ``key=value`` to ``sections``, and return its section and the path within it."""
    source = _quoted(change)
    key, equals, text = change.partition("=")
    path = [part.strip() for part in key.split(".")]
    if not equals or not all(path):
        raise ConfigError(f"{source}: give KEY=VALUE, as in --set optimizer.lr=0.01")
    if len(path) > _MOST_PARTS:
        raise ConfigError(f"{source}: the key has {len(path):,} parts; give at most {_MOST_PARTS}")
    check_values(path, source)
    value = parse_value(text.strip(), source)
    section, path = _locate(sections, path, source)
    if section not in SECTIONS:
        _set_nested(sections[section], path, value, f"{source}: [{section}]")  # its command checks it
    elif len(path) == 1:
        sections[section][path[0]] = read_value(sections, section, path[0], value, source)
    else:
        _set_inside(sections[section], path, value, f"{source}: [{section}] {path[0]}", section)
    return (section, *path)


def position_of(chosen: list[Spec], name: str, where: str) -> int:
    """Return the index of a component among several chosen ones, by its short or qualified name.

    Raises:
        ConfigError: the component is missing or ambiguous; ``where`` is the beginning of the message.
    """
    names = [with_params(spec)[0] for spec in chosen]
    found = [index for index, each in enumerate(names) if name in (each, each.rpartition("/")[2])]
    if not found:
        known = f"has {', '.join(names)}; name one of these, or" if names else "is empty;"
        hint = near(name, names) or f"; it {known} write the whole list with {name!r}"
        raise ConfigError(f"{where} has no {name!r}{hint}")
    if len(found) > 1:
        raise ConfigError(f"{where} has {name!r} {len(found)} times; set it whole")
    return found[0]


def own_choice(value: Any, where: str) -> Any:
    """Return the value of a model class's own key in a form whose parameters can be set.

    Raises:
        ConfigError: the value is a list that is not a spec.
    """
    if not isinstance(value, list):
        return value
    if is_spec(value):
        return read_spec(value, where)
    raise ConfigError(f"{where} is {value!r}; set it whole")


def with_params(spec: Spec) -> tuple[str, dict[str, Any]]:
    """Return the name and the parameters of a parsed spec."""
    return (spec, {}) if isinstance(spec, str) else spec


def _quoted(change: str) -> str:
    return f"--set {change}" if len(change) <= _LONGEST else f"--set {change[:_LONGEST]}..."


def _locate(sections: Sections, path: list[str], source: str) -> tuple[str, list[str]]:
    """Return the section of a path and the path within it."""
    if path[0] == TEMPLATE:
        raise ConfigError(f"{source}: a template is chosen by the file alone; write it at the file's top")
    if path[0] in sections and path[0] not in SECTIONS:
        if len(path) == 1:
            raise ConfigError(f"{source}: [{path[0]}] is a section; set one of its keys: {path[0]}.KEY=VALUE")
        return path[0], path[1:]
    if path[0] in SECTIONS:
        if len(path) == 1:
            keys = ", ".join(f"{path[0]}.{key}" for key in SECTIONS[path[0]])
            raise ConfigError(f"{source}: [{path[0]}] is a section; set one of {keys}")
        name, path = path[0], path[1:]
        if path[0] not in SECTIONS[name] and (name != "model" or plain_model(sections)):
            raise ConfigError(f"{source}: {unknown_key(name, path[0])}")
        return name, path
    for name, own in SECTIONS.items():
        if path[0] in own or path[0] in sections[name]:
            return name, path
    known = [key for own in SECTIONS.values() for key in own]
    hint = near(path[0], [*known, *SECTIONS]) or f"; the keys are {', '.join(known)}"
    raise ConfigError(f"{source}: there is no key {path[0]!r}{hint}")


def _set_inside(values: dict[str, Any], path: list[str], value: Any, where: str, section: str) -> None:
    """Set a parameter of the component, or of one of the components, that ``path[0]`` chooses."""
    key, rest = path[0], path[1:]
    known = SECTIONS[section].get(key)
    if known is not None and known.is_table:
        table = deepcopy(values.get(key) or {})
        _set_nested(table, rest, value, where)
        values[key] = known.read(table, where)
        return
    if known is not None and not known.kind:
        raise ConfigError(f"{where} has no parameters; set it whole: --set {section}.{key}=VALUE")
    chosen = values.get(key) if known is not None else own_choice(values.get(key), where)
    if isinstance(chosen, dict) and section == "data":
        change_set(chosen, rest, value, where)
    elif isinstance(chosen, list) and chosen:
        _set_in_list(chosen, rest, value, where)
    elif isinstance(chosen, str | tuple):
        values[key] = _with_parameter(chosen, rest, value, where)
    elif not chosen and known is not None and _is_plain(values, section):
        name = rest[0] if known.read is read_specs and len(rest) > 1 else "NAME"
        raise ConfigError(f"{where} is not set; choose a component first: --set {section}.{key}={name}")
    else:
        _set_nested(values, [key, *rest], value, where)


def change_set(sets: dict[str, Any], path: list[str], value: Any, where: str) -> None:
    """Set one of the sets of a key by name, or a parameter of its component.

    Raises:
        ConfigError: there is no such set, or the value does not choose a component.
    """
    name, rest = path[0], path[1:]
    if name == "name":
        raise ConfigError(f"{where} has the sets {', '.join(sets)}; to have one dataset, set it whole")
    if not rest:
        sets.update(read_sets({name: value}, where))
        return
    if name not in sets:
        raise ConfigError(f"{where} has no set {name!r}{near(name, sets) or '; it has ' + ', '.join(sets)}")
    sets[name] = _with_parameter(sets[name], rest, value, f"{where}.{name}")
    if isinstance(sets[name], str):
        sets[name] = (sets[name], {})


def _is_plain(values: dict[str, Any], section: str) -> bool:
    return section != "model" or plain_model({"model": values})


def _set_in_list(chosen: list[Spec], path: list[str], value: Any, where: str) -> None:
    names = [with_params(spec)[0].rpartition("/")[2] for spec in chosen]
    if len(path) == 1 and not near(path[0], names):
        raise ConfigError(
            f"{where} has no {path[0]!r}; name the component first, as in {names[0]}.{path[0]}=VALUE"
        )
    index = position_of(chosen, path[0], where)
    if len(path) == 1:
        raise ConfigError(f"{where}: name a parameter of {path[0]!r} too, as in {path[0]}.PARAMETER=VALUE")
    chosen[index] = _with_parameter(chosen[index], path[1:], value, where)


def _with_parameter(spec: Spec, path: list[str], value: Any, where: str) -> Spec:
    name, params = with_params(spec)
    if path == ["name"]:
        if not isinstance(value, str):
            raise ConfigError(f"{where}.name is {value!r}; give the name of a component")
        return (value, params) if params else value
    _set_nested(params, path, value, where)
    return (name, params)


def _set_nested(table: dict[str, Any], path: list[str], value: Any, where: str) -> None:
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{where}: {part!r} is {table!r}, which has no keys; set it whole")
    table[path[-1]] = value
