"""The checkpoint that a run directory stands for, where a command takes either."""

from __future__ import annotations

from pathlib import Path

from argus_core.runs.directory import RunDirectory
from argus_core.storage.forms import is_folder

__all__ = ["checkpoint_at"]


def checkpoint_at(path: Path) -> Path:
    """Return the checkpoint at ``path``: itself, or the best one of the run in a run directory."""
    return RunDirectory.of(path).best if path.is_dir() and not is_folder(path) else path
