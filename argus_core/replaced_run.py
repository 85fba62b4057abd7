"""A run that another is to replace, kept beside it until the new one has a checkpoint.

Each of its files is renamed to ``.NAME.old`` in its folder. One file in the run directory says how far that
is, so that a process can be killed at any moment, and the next one knows what to do:

    .replacing   the old files are on their way; all that is not there yet is where it was
    .replaced    they are all there, and what has their names is of the new run
    .discarded   the new run has a checkpoint, and they are being removed
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["ReplacedRun"]


class ReplacedRun:
    """The old run in a run directory.

    Args:
        folder: the run directory.
        files: those that a run has there.
    """

    def __init__(self, folder: Path, files: Sequence[Path]) -> None:
        self._files = [(file, file.with_name(f".{file.name}.old")) for file in files]
        self._replacing = folder / ".replacing"
        self._replaced = folder / ".replaced"
        self._discarded = folder / ".discarded"

    @property
    def is_there(self) -> bool:
        """Whether there is an old run that could be put back, or is being removed."""
        return any(map(os.path.lexists, (self._replacing, self._replaced, self._discarded)))

    def set_aside(self) -> None:
        """Give the names of the old run's files free."""
        for _, aside in self._files:
            aside.unlink(missing_ok=True)  # of no run that could be put back
        self._replacing.open("x").close()
        for file, aside in self._files:
            if os.path.lexists(file):
                file.replace(aside)
        self._replacing.replace(self._replaced)

    def put_back(self) -> bool:
        """Remove the new run and put the old one back; return whether there was one."""
        if os.path.lexists(self._replaced):
            for file, _ in self._files:
                file.unlink(missing_ok=True)
            self._replaced.replace(self._replacing)
        if not os.path.lexists(self._replacing):
            return False
        for file, aside in self._files:
            if os.path.lexists(aside):
                aside.replace(file)
        self._replacing.unlink()
        return True

    def remove(self) -> None:
        """Remove the old run."""
        if os.path.lexists(self._replaced):
            self._replaced.replace(self._discarded)
        if os.path.lexists(self._discarded):
            for _, aside in self._files:
                aside.unlink(missing_ok=True)
            self._discarded.unlink()
