"""A run that is being replaced, kept until the new one has a checkpoint.

Each of its files, those on its list and the list included, is renamed to ``.NAME.old`` in its folder. One
file in the run directory says how far that is, so that a process can be killed at any moment, and the next
one knows what to do:

    .replacing   the old files are being renamed; some still have their names
    .replaced    all are renamed; files with their names belong to the new run
    .discarded   the new run has a checkpoint, and they are being removed

Other files that are there, such as those of a run that was copied with its folder, stay. What the new run
overwrites of them is kept as ``.NAME.old``, too, and listed in ``.overwritten``.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from argus_core.files.made_files import MadeFiles
from argus_core.storage.folder_replacement import remove_at_once

__all__ = ["ReplacedRun"]


class ReplacedRun:
    """The old run in a run directory that a new run replaces.

    Args:
        folder: the run directory.
        files: those that every run has there; some are folders of shards.
        made: the list of those that only the run in question has.
        overwritten: the list of other files that a new run overwrites.
        firsts: those by any of which the new run has a checkpoint; from then on the old one is not restored.
    """

    def __init__(
        self,
        folder: Path,
        files: Sequence[Path],
        made: MadeFiles,
        overwritten: MadeFiles,
        firsts: Sequence[Path] = (),
    ) -> None:
        self._files = files
        self._made = made
        self._overwritten = overwritten
        self._firsts = firsts
        self._replacing = folder / ".replacing"
        self._replaced = folder / ".replaced"
        self._discarded = folder / ".discarded"

    @property
    def is_there(self) -> bool:
        """True if there is an old run, restorable or being removed."""
        return any(map(os.path.lexists, (self._replacing, self._replaced, self._discarded)))

    @property
    def is_returnable(self) -> bool:
        """True if there is an old run that can be restored: the new one has no checkpoint."""
        has_first = any(map(os.path.lexists, self._firsts))
        return os.path.lexists(self._replacing) or (os.path.lexists(self._replaced) and not has_first)

    @property
    def places(self) -> list[Path]:
        """The paths of an old run's files and marks."""
        files = [_aside(file) for file in (*self._files, self._made.path)]
        lists = [self._made.path, self._overwritten.path]
        return [*lists, self._replacing, self._replaced, self._discarded, *files]

    def set_aside(self) -> None:
        """Rename the old run's files to ``.NAME.old``."""
        files = [*self._files, *self._made.files(), self._made.path]
        for file in files:
            _remove(_aside(file))  # of no run that could be restored
        self._overwritten.begin()
        self._replacing.open("x").close()
        for file in files:
            if os.path.lexists(file):
                file.replace(_aside(file))
        self._replacing.replace(self._replaced)

    def keep(self, path: Path) -> None:
        """Keep the content of a file that the new run is about to overwrite, until it has a checkpoint."""
        is_own = path in self._files or path.parent in self._files
        if not os.path.lexists(self._replaced) or is_own or not _is_file(path):
            return
        if self._overwritten.add(path):
            aside = _aside(path)
            aside.unlink(missing_ok=True)
            try:
                os.link(path, aside)  # a writer of a file with two names makes a copy first
            except OSError:  # a file system that has no such names
                shutil.copy2(path, aside)

    def put_back(self) -> bool:
        """Remove the new run and restore the old one; return whether there was one."""
        if not self.is_returnable:
            return False
        if os.path.lexists(self._replaced):
            if any(os.path.lexists(_aside(file)) for file in self._files):  # else the mark is not of this run
                self.remove_new()
            self._replaced.replace(self._replacing)
        moved = [file for file in self._files_aside() if os.path.lexists(_aside(file))]
        for file in moved:
            _aside(file).replace(file)
        for file in self._overwritten.files():
            if os.path.lexists(_aside(file)):
                _aside(file).replace(file)
                _aside(file).unlink(missing_ok=True)  # two names of one file: then replacing does nothing
        self._overwritten.begin()
        self._replacing.unlink()
        return bool(moved)

    def remove_new(self) -> None:
        """Remove the new run's files."""
        for file in (*self._files, *self._made.files()):
            _remove(file)
        self._made.remove()

    def remove_old(self) -> None:
        """Remove the old run."""
        if os.path.lexists(self._replaced):
            self._replaced.replace(self._discarded)
        if os.path.lexists(self._discarded):
            for file in (*self._files_aside(), *self._overwritten.files()):
                _remove(_aside(file))
            self._overwritten.begin()
            self._discarded.unlink()

    def _files_aside(self) -> list[Path]:
        """Return the old run's files, its list last, under their current names."""
        place = _aside(self._made.path)
        listed = self._made.files(place if os.path.lexists(place) else self._made.path)
        return [*self._files, *listed, self._made.path]


def _aside(file: Path) -> Path:
    return file.with_name(f".{file.name}.old")


def _remove(path: Path) -> None:
    """Remove a file, or a folder of shards, if it is there."""
    if path.is_dir() and not path.is_symlink():
        remove_at_once(path)
    else:
        path.unlink(missing_ok=True)


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False
