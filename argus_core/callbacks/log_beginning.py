"""The beginning of a log's file: emptied by a new run, kept by one that is resumed."""

from __future__ import annotations

from pathlib import Path

from argus_core.callbacks.state import State
from argus_core.files.confinement import opener
from argus_core.files.output_files import make_folder, writing

__all__ = ["begin_file", "is_resumed"]


def is_resumed(state: State) -> bool:
    """Return whether a run continues an earlier one."""
    return state.global_step > 0 or state.epoch > 0


def begin_file(callback: str, path: Path, append: bool) -> None:
    """Make the folder and the file, so that a path that cannot be written fails before training."""
    make_folder(callback, path.parent)
    with writing(callback, path), open(path, "a" if append else "w", encoding="utf-8", opener=opener):
        pass
