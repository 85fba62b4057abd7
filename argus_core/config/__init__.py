"""Configuration files: TOML with the sections ``[model]``, ``[data]`` and ``[fit]``.

`argus_core.config.schema` defines the keys, `argus_core.config.values` checks their values,
`argus_core.config.changes` applies ``--set``, and `argus_core.config.template` reads the registered
configurations that a file may start from.
"""

from __future__ import annotations

from argus_core.config.changes import apply_change
from argus_core.config.file import (
    Config,
    complete_config,
    config_differences,
    read_config,
    read_document,
    read_resolved,
    resolved_toml,
    specs_of,
    validation_phases,
)
from argus_core.config.schema import BATCH_SIZE, SECTIONS, Key
from argus_core.config.template import build_template
from argus_core.config.values import parse_value

__all__ = [
    "BATCH_SIZE",
    "SECTIONS",
    "Config",
    "Key",
    "apply_change",
    "build_template",
    "complete_config",
    "config_differences",
    "parse_value",
    "read_config",
    "read_document",
    "read_resolved",
    "resolved_toml",
    "specs_of",
    "validation_phases",
]
