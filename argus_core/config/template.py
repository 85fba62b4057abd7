"""The layers below a configuration: other files, and templates, which are components of kind ``config``.

A file with ``template = "digits"`` has the template's values, overridden by its own. A template may itself
start from another. A file with ``extends = ["base.toml"]`` has the values of those files, which override a
template and each other in this order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from argus_core.config.layers import lay_over
from argus_core.config.schema import EXTENDS, SECTIONS, TEMPLATE, Sections
from argus_core.config.specs import read_spec
from argus_core.errors import ConfigError
from argus_core.registry.component import Component
from argus_core.registry.factory import call_factory
from argus_core.registry.file_params import Source, taken_from
from argus_core.registry.registry import resolve

__all__ = ["build_template", "read_layers"]


def read_layers(document: Mapping[str, Any], source: str) -> Sections:
    """Return the sections of a parsed file, merged over those of its templates.

    Args:
        document: may be modified. Its ``extends`` holds a pair of source and document for each file, as
            `argus_core.config.read_document` returns it.
        source: the beginning of messages.

    Raises:
        ConfigError: an unknown section or key, a value that its key does not take, a template that is not a
            configuration, or one that starts from itself.
        ArgusError: the template is missing or cannot be loaded, or does not take its parameters.
    """
    sections: Sections = {name: {} for name in SECTIONS}
    for layer, its_source in _layers(document, source):
        lay_over(sections, layer, its_source)
    return sections


def build_template(component: Component, params: Mapping[str, Any]) -> dict[str, Any]:
    """Build a template, and return its document as a copy with only values that TOML can hold.

    Raises:
        ConfigError: its factory returns a value that is not a configuration.
        ArgusError: the template cannot be loaded, or does not take the parameters.
    """
    label = f"config {component.name!r} of {component.origin}"
    built = call_factory(label, component.load(), (), params)
    if not isinstance(built, Mapping):
        raise ConfigError(
            f"{label} returned {built!r:.50}; its factory must return a dict of sections, "
            '{"model": {...}, "data": {...}, "fit": {...}}'
        )
    try:
        document: dict[str, Any] = _as_toml(built, label, "")
    except RecursionError:
        raise ConfigError(f"{label} is nested too deeply, or contains itself; make it flatter") from None
    return document


def _layers(document: Mapping[str, Any], source: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the layers of a file from the lowest one up, each with its source."""
    yield from reversed(list(_templates(document, source)))
    for base, its_document in document.get(EXTENDS, ()):
        yield from _layers(its_document, base)
    yield {key: value for key, value in document.items() if key not in (TEMPLATE, EXTENDS)}, source


def _templates(document: Mapping[str, Any], source: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the template of a file, the template of that template, and so on."""
    passed: list[str] = []
    while TEMPLATE in document:
        chosen = read_spec(document[TEMPLATE], f"{source}: {TEMPLATE}")
        name, params = (chosen, {}) if isinstance(chosen, str) else chosen
        component = resolve("config", name)
        if component.qualified_name in passed:
            circle = [*passed[passed.index(component.qualified_name) :], component.qualified_name]
            raise ConfigError(
                f"{source} starts from itself: {' -> '.join(circle)}; let its {TEMPLATE} be another, or none"
            )
        # Parameters that a template gives to its own template are not the file's.
        file = None if passed else Source(source, is_checkpoint=False)
        passed.append(component.qualified_name)
        with taken_from(file):
            document = build_template(component, params)
        source = f"config {component.name!r} of {component.origin}"
        yield {key: value for key, value in document.items() if key != TEMPLATE}, source


def _as_toml(value: Any, label: str, path: str) -> Any:
    """Return a copy with lists in place of tuples, which Python code may use for specs."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ConfigError(f"{label}{path} has the key {key!r}; keys are strings")
        return {key: _as_toml(item, label, f"{path}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_toml(item, label, f"{path}[{index}]") for index, item in enumerate(value)]
    if type(value) in (str, int, float, bool):
        return value
    sort = "None" if value is None else f"of type {type(value).__name__}"
    raise ConfigError(
        f"{label}{path} is {sort}; a configuration contains strings, numbers, True and False, lists "
        "and dicts: omit values that are not set, and choose everything else by name"
    )
