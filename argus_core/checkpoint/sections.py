"""The sections of a manifest, and those of a state of pytorch-argus: whether they are as they are written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from argus_core.checkpoint.records import records_of
from argus_core.errors import CheckpointError, UnsafeCheckpointError

__all__ = ["check_legacy_state", "check_sections", "has_names", "is_named_state", "malformed"]


def check_sections(manifest: Mapping[str, Any], path: Path) -> None:
    """Refuse a manifest whose checksums are right and whose contents no argus_core wrote."""
    sections = {"model": dict, "params": dict, "components": dict, "extra": dict}
    for section, sort in sections.items():
        if not isinstance(manifest.get(section), sort):
            raise malformed(path, section)
    if records_of(manifest) is None:
        raise malformed(path, "components")
    if not isinstance(manifest.get("step_state", {}), dict):
        raise malformed(path, "step_state")
    if not _are_keys(manifest.get("evaluated", {})):
        raise malformed(path, "evaluated")
    if not _is_modes(manifest.get("modes", {})):
        raise malformed(path, "modes")
    if manifest.get("optimizer") is not None and not _is_optimizer(manifest["optimizer"]):
        raise malformed(path, "optimizer")


def malformed(path: Path, section: str) -> UnsafeCheckpointError:
    """Return the error for a section that no argus_core wrote."""
    return UnsafeCheckpointError(
        f"{path}: the manifest's {section!r} is not as argus_core writes it; do not trust this file"
    )


def _are_keys(evaluated: Any) -> bool:
    return isinstance(evaluated, dict) and all(isinstance(key, str) for key in evaluated.values())


def _is_optimizer(optimizer: Any) -> bool:
    return isinstance(optimizer, dict) and set(optimizer) == {"state", "param_groups"}


def _is_modes(modes: Any) -> bool:
    return isinstance(modes, dict) and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in modes.values()
    )


def is_named_state(optimizer: Mapping[str, Any]) -> bool:
    """Return whether an optimizer's state has the form that `state.name_optimizer_state` gives it."""
    state, groups = optimizer["state"], optimizer["param_groups"]
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        return False
    lists = [group.get("params") for group in groups]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        return False
    known = {name for names in lists for name in names}
    return isinstance(state, dict) and all(
        name in known and isinstance(slots, dict) for name, slots in state.items()
    )


def check_legacy_state(state: Any) -> None:
    """Refuse what has not the form of a pytorch-argus checkpoint, read from a file or made by the user."""
    forms = {"model_name": str, "params": Mapping, "nn_state_dict": Mapping}
    wrong = [key for key, form in forms.items() if not isinstance(_get(state, key), form)]
    if "nn_state_dict" not in wrong and not has_names(state["nn_state_dict"]):
        wrong.append("nn_state_dict")
    if not isinstance(_get(state, "optimizer_state_dict"), Mapping | None):
        wrong.append("optimizer_state_dict")
    if wrong:
        raise CheckpointError(
            f"the saved state has no valid {', '.join(wrong)}; it takes model_name (a string), params, "
            "nn_state_dict (with strings for keys) and perhaps optimizer_state_dict (dicts)"
        )


def has_names(state: Mapping[Any, Any]) -> bool:
    """Return whether strings are the keys of a network's state."""
    return all(isinstance(name, str) for name in state)


def _get(state: Any, key: str) -> Any:
    return state.get(key) if isinstance(state, Mapping) else None
