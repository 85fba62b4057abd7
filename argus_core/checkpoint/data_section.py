"""The section ``data`` of a manifest: classes, feature names and so on of a model's data.

It has a schema of its own. An argus-torch that does not know the section, or its schema, loads the model
without it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from argus_core.checkpoint.records import is_record
from argus_core.checkpoint.sections import malformed
from argus_core.data.description import NAMES, DataDescription, are_names, are_samples, are_units
from argus_core.data.sample_form import is_sample_form
from argus_core.errors import ArgusWarning, CorruptCheckpointError, ParamsError
from argus_core.registry.component import KINDS
from argus_core.storage.encoding import decode, encode

__all__ = ["DATA_SCHEMA", "data_of", "data_section"]

DATA_SCHEMA = 1
"""The schema of the section that this version writes."""

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Pure functions from each older schema to the next one."""

_SECTION = "data"
_MOST_COMPONENTS = 1000
_MOST_SEED = 2**64


def data_section(data: DataDescription) -> dict[str, Any]:
    """Return the section for a description, empty for an empty one.

    Raises:
        ParamsError: it holds what a checkpoint cannot keep.
    """
    if not data:
        return {}
    tensors: dict[str, Any] = {}
    section = {
        "schema": DATA_SCHEMA,
        "specs": encode(dict(data.specs), "data.specs", tensors),
        "metrics": encode([*data.metrics], "data.metrics", tensors),
        "seed": data.seed,
        "components": {kind: [*map(dict, records)] for kind, records in data.components.items()},
        "samples": dict(data.samples),
        **{name: None if (names := getattr(data, name)) is None else [*names] for name in NAMES},
        "units": dict(data.units),
        "sample": data.sample,
    }
    if tensors:
        raise ParamsError(f"model.data holds a tensor as {min(tensors)}; keep names and numbers in it")
    for key, fits in _RULES.items():
        if not fits({"specs": dict(data.specs), "metrics": [*data.metrics]}.get(key, section[key])):
            raise ParamsError(f"model.data.{key} is not of the form that a checkpoint keeps; correct it")
    return section


def data_of(manifest: Mapping[str, Any], path: Path) -> DataDescription:
    """Return the description in a manifest, empty if it has none.

    Raises:
        UnsafeCheckpointError: the section of the file at ``path`` is not as argus_core writes it.
    """
    section = manifest.get(_SECTION)
    if section is None:
        return DataDescription()
    schema = section.get("schema") if isinstance(section, dict) else None
    if type(schema) is not int or schema < 1:
        raise malformed(path, _SECTION)
    if schema > DATA_SCHEMA:
        warnings.warn(
            f"{path} describes its data by schema {schema}, and this argus-torch reads schemas up to "
            f"{DATA_SCHEMA}; model.data is empty; pip install --upgrade argus-torch",
            ArgusWarning,
            stacklevel=4,
        )
        return DataDescription()
    try:
        for older in range(schema, DATA_SCHEMA):
            section = {**MIGRATIONS[older](section), "schema": older + 1}
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise malformed(path, _SECTION) from error
    return _decoded(section, path)


def _decoded(section: dict[str, Any], path: Path) -> DataDescription:
    if section.keys() != {"schema", *_RULES}:
        raise malformed(path, _SECTION)
    try:
        decoded = {key: decode(section[key], {}) for key in ("specs", "metrics")}
    except CorruptCheckpointError as error:  # it names a tensor
        raise malformed(path, _SECTION) from error
    values = {key: section[key] for key in _RULES} | decoded
    if not all(fits(values[key]) for key, fits in _RULES.items()):
        raise malformed(path, _SECTION)
    values |= {name: None if values[name] is None else tuple(values[name]) for name in NAMES}
    values["metrics"] = tuple(values["metrics"])
    return DataDescription(**values)


def _is_specs(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _are_metrics(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_spec, value))


def _is_spec(value: Any) -> bool:
    if isinstance(value, tuple):
        return len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], dict)
    return isinstance(value, str)


def _are_components(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= {*KINDS}
        and all(isinstance(records, list) for records in value.values())
        and sum(map(len, value.values())) <= _MOST_COMPONENTS
        and all(is_record(record) for records in value.values() for record in records)
    )


def _are_names_or_none(value: Any) -> bool:
    return value is None or are_names(value)


_RULES: Mapping[str, Callable[[Any], bool]] = {
    "specs": _is_specs,
    "metrics": _are_metrics,
    "seed": lambda value: value is None or (type(value) is int and 0 <= value < _MOST_SEED),
    "components": _are_components,
    "samples": are_samples,
    **dict.fromkeys(NAMES, _are_names_or_none),
    "units": lambda value: value == {} or are_units(value),
    "sample": is_sample_form,
}
