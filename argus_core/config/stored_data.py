"""The configuration of data that a checkpoint keeps, read as strictly as a file's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from argus_core.config.changes import apply_changes
from argus_core.config.file import Config, with_defaults
from argus_core.config.schema import SECTIONS, Sections, read_value
from argus_core.config.split import check_data
from argus_core.errors import ConfigError

__all__ = ["stored_data"]


def stored_data(
    specs: Mapping[str, Any],
    path: Path,
    seed: int,
    device: Any,
    changes: Iterable[str] = (),
    is_trusted: bool = False,
) -> Config:
    """Return a configuration with the section ``[data]`` of a checkpoint, which builds no model.

    Args:
        specs: the section, as `DataDescription` has it.
        path: the checkpoint, for messages, and the file that the section's parameters come from.
        seed: of the run.
        device: for which batches are read.
        changes: ``key=value`` of the caller, for keys of ``[data]`` only.
        is_trusted: whether the section may set what a configuration may.

    Raises:
        ConfigError: a key is unknown, or a value is not one that it takes.
    """
    sections: Sections = {name: {} for name in SECTIONS}
    for key, value in specs.items():
        sections["data"][key] = read_value(sections, "data", key, _as_toml(value), str(path))
    given = apply_changes(sections, changes, {})
    for (section, *_), change in given.items():
        if section != "data":
            raise ConfigError(
                f"--set {change}: the key is in [{section}]; give keys of [data], as in data.val=..."
            )
    check_data(sections["data"], str(path))
    data = with_defaults("data", sections["data"])
    data.setdefault("val_batch_size", data["batch_size"])
    return Config(
        {"name": "Model", "device": device},
        data,
        {"seed": seed},
        {},
        str(path),
        frozenset(given),
        str(path.parent),
        is_checkpoint=not is_trusted,
    )


def _as_toml(value: Any) -> Any:
    """Return a value with lists in place of tuples, as a parsed file has it."""
    if isinstance(value, tuple | list):
        return [_as_toml(each) for each in value]
    return {key: _as_toml(each) for key, each in value.items()} if isinstance(value, dict) else value
