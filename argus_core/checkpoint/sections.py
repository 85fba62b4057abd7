"""The sections of a manifest, and the check that a file's are as argus_core writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from argus_core.errors import UnsafeCheckpointError

__all__ = ["PREFIXES", "SECTIONS", "check_sections", "has_names", "is_named_state", "malformed"]

PREFIXES = {"nn_module": "nn", "loss": "loss", "prediction_transform": "transform"}
"""The prefix of the tensors of each stateful part in the file."""


class _Section(NamedTuple):
    """The form of a section: the type of its JSON, that of each value in it, and whether each file has it."""

    form: Any = object
    values: Any = object
    always: bool = False

    def fits(self, section: Any) -> bool:
        return isinstance(section, self.form) and (
            self.values is object or all(isinstance(value, self.values) for value in section.values())
        )


SECTIONS: Mapping[str, _Section] = {
    "schema": _Section(int, always=True),
    "created": _Section(),
    "versions": _Section(),
    "model": _Section(dict, always=True),
    "params": _Section(dict, always=True),
    "components": _Section(dict, always=True),
    "run": _Section(),
    "data": _Section(dict),
    "extra": _Section(dict, always=True),
    "optimizer": _Section(dict | None),
    "extra_state": _Section(),
    "modes": _Section(dict, list),
    "step_state": _Section(dict),
    "evaluated": _Section(dict, str),
    "progress": _Section(),
}
"""The sections that `saving` writes and `contents` reads; the storage adds ``tensors`` and ``aliases``.

docs/reference/checkpoint-format.md describes each one. Sections without a form, and the contents of
the others, are checked when they are read.
"""


def check_sections(manifest: Mapping[str, Any], path: Path) -> None:
    """Raise for a manifest with right checksums whose contents are not in the form that argus_core writes."""
    for name, section in SECTIONS.items():
        if not section.fits(manifest[name]) if name in manifest else section.always:
            raise malformed(path, name)
    modes, optimizer = manifest.get("modes", {}), manifest.get("optimizer")
    if not all(isinstance(name, str) for names in modes.values() for name in names):
        raise malformed(path, "modes")
    if optimizer is not None and optimizer.keys() != {"state", "param_groups"}:
        raise malformed(path, "optimizer")


def malformed(path: Path, section: str) -> UnsafeCheckpointError:
    """Return the error for a section that is not in the form that argus_core writes."""
    return UnsafeCheckpointError(
        f"{path}: the manifest's {section!r} is not as argus_core writes it; do not trust this file"
    )


def is_named_state(optimizer: Mapping[str, Any]) -> bool:
    """Return whether an optimizer's state has the form of `optimizer_state.name_optimizer_state`."""
    state, groups = optimizer["state"], optimizer["param_groups"]
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        return False
    lists = [group.get("params") for group in groups]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        return False
    known = {name for names in lists for name in names}
    return isinstance(state, dict) and all(
        name in known and isinstance(entries, dict) for name, entries in state.items()
    )


def has_names(state: Mapping[Any, Any]) -> bool:
    """Return whether all keys of a network's state are strings."""
    return all(isinstance(name, str) for name in state)
