"""The beginning of a log's file: emptied by a new run, kept by one that is resumed."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from argus_core.callbacks.state import State
from argus_core.errors import ArgusError
from argus_core.files.confinement import opener
from argus_core.files.output_files import make_folder, writing
from argus_core.files.working_folder import shown

__all__ = ["begin_file"]

_LONGEST = 10_000


def begin_file(callback: str, path: Path, state: State, append: bool, first_line: str) -> None:
    """Make the folder and the file, so that a path that cannot be written fails before training.

    Args:
        callback: its name, for messages.
        path: the file.
        state: of the run that starts; one that is resumed keeps what the file holds.
        append: whether a new run keeps it too.
        first_line: a regular expression of how a log of this callback begins; no other file is emptied.

    Raises:
        ArgusError: the file cannot be written, or is not a log of this callback.
    """
    is_kept = append or state.global_step > 0 or state.epoch > 0
    make_folder(callback, path.parent)
    with writing(callback, path):
        mode = path.stat().st_mode if path.exists() else 0
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            raise ArgusError(f"{callback} has the path {shown(path)!r}, which is a pipe; choose a file")
        if stat.S_ISREG(mode) and not is_kept:
            _check_is_log(callback, path, first_line)
        with open(path, "a" if is_kept else "w", encoding="utf-8", opener=opener):
            pass


def _check_is_log(callback: str, path: Path, first_line: str) -> None:
    with open(path, encoding="utf-8", errors="replace", opener=opener) as file:
        begins = file.readline(_LONGEST)
    if begins.strip() and not re.match(first_line, begins):
        raise ArgusError(
            f"{callback} would replace {shown(path)!r}, which is not a log that it wrote; choose another "
            "path, or remove the file"
        )
