"""Configuration files: three sections of TOML that say what to train, on what data and how.

`argus_core.config.schema` says what each key takes, `argus_core.config.changes` applies ``--set``,
`argus_core.config.values` which values there are,
`argus_core.config.template` has the configurations by name that a file may start from.
"""

from __future__ import annotations

from argus_core.config.changes import apply_change
from argus_core.config.file import (
    Config,
    complete_config,
    config_differences,
    read_config,
    read_document,
    resolved_toml,
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
    "resolved_toml",
]
