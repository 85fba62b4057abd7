"""The beginning of a log's file: emptied by a new run, kept by one that is resumed."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from argus_core.callbacks.state import State
from argus_core.errors import ArgusError
from argus_core.files.confinement import is_confined, opener
from argus_core.files.output_files import make_folder, writing
from argus_core.files.working_folder import shown

__all__ = ["begin_file", "is_resumed"]

_LONGEST = 2**16  # bytes of a first line


def is_resumed(state: State) -> bool:
    """Return whether a run continues an earlier one."""
    return state.global_step > 0 or state.epoch > 0


def begin_file(
    callback: str, path: Path, append: bool, is_own: Callable[[str], bool], *, is_known: bool = False
) -> None:
    """Make the folder and the file, so that a path that cannot be written fails before training.

    Args:
        callback: its name, for messages.
        path: of the file.
        append: whether to keep what the file holds.
        is_own: whether the first line of a file is one that this callback writes; other files are left alone.
        is_known: whether the run that is resumed has written the file.

    Raises:
        ArgusError: the file cannot be written, or holds something else.
    """
    make_folder(callback, path.parent)
    with writing(callback, path):
        if os.path.exists(path) and not os.path.isdir(path):
            _check_kind(callback, path)
            if not is_known and not (append and is_confined(path)):
                _check_own(callback, path, is_own)
        with open(path, "a" if append else "w", encoding="utf-8", opener=opener):
            pass


def _check_kind(callback: str, path: Path) -> None:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ArgusError(
            f"{callback} cannot write {shown(path)!r}: it is a pipe or a device, and must be an ordinary "
            "file; choose another path"
        )


def _check_own(callback: str, path: Path, is_own: Callable[[str], bool]) -> None:
    with open(path, "rb", opener=opener) as file:
        line = file.readline(_LONGEST)
    if line and not is_own(line.decode("utf-8", "replace").removeprefix("\ufeff").rstrip("\r\n")):
        raise ArgusError(
            f"{callback} cannot write {shown(path)!r}: the file there was not written by {callback}; move it "
            "away, or choose another path"
        )
