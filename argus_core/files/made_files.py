"""The list of the additional files that a run, such as its callbacks, has made in its run directory.

A callback's table, its checkpoints and their folders belong to the run: they are moved aside, restored and
removed with it. Files that existed before, and files of other programs, are not on the list.

A run directory may be copied from an untrusted source, including its list. So the list begins with its own
inode number, which is unknown before the list is written: a copied or downloaded list is ignored.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Iterable
from pathlib import Path

from argus_core.files.confinement import unlisted_opener

__all__ = ["MadeFiles"]

_LONGEST = 2**26  # bytes


class MadeFiles:
    """The list of a run directory.

    Args:
        folder: the run directory.
        linked: the folder in it that may be a symbolic link.
        others: the files that are not listed, since every run has them; folders of files among them.
        name: of the list's file.

    Attributes:
        path: of the list's file.
    """

    def __init__(self, folder: Path, linked: Path, others: Iterable[Path], name: str = ".made") -> None:
        self.folder = folder
        self.path = folder / name
        self._linked = linked
        self._others = [*others, linked, self.path]
        self._noted: set[str] = set()
        self._lock = threading.Lock()  # checkpoints may be written in the background

    def note(self, path: str | os.PathLike[str], is_folder: bool = False, is_there: bool = False) -> None:
        """Add a file or folder that the run makes to the list.

        Args:
            path: of the file or folder; an existing one does not belong to the run.
            is_folder: whether it is a folder.
            is_there: whether the run has just made it.
        """
        with self._lock:
            name = os.path.abspath(path)
            if name in self._noted:
                return
            place = _place(path)
            made = [(parent, True) for parent in reversed(place.parents) if not os.path.lexists(parent)]
            if is_there or not os.path.lexists(place):
                made.append((place, is_folder))
            others = {_place(other) for other in self._others}
            whole = others - {_place(self._linked)}  # a checkpoint may be a folder
            listed = [
                (self._name(each), folder)
                for each, folder in made
                if each not in others and each.parent not in whole
            ]
            self._append([f"{each}/" if folder else each for each, folder in listed if each])
            self._noted.add(name)

    def has_noted(self, path: str | os.PathLike[str]) -> bool:
        """Return whether `note` has recorded this path."""
        return os.path.abspath(path) in self._noted

    def add(self, path: Path) -> bool:
        """Add an existing file to the list, and return whether it lies in the run directory."""
        with self._lock:
            name = self._name(_place(path))
            self._append([name] if name else [])
            return bool(name)

    def files(self, moved_to: Path | None = None) -> list[Path]:
        """Return the listed files, without those behind a symbolic link or replaced by other objects.

        Args:
            moved_to: the new path of the list, if it was moved together with the files.
        """
        files = [self.folder / name for name in self._names(moved_to) if not name.endswith("/")]
        return [file for file in files if self._is_here(file) and (moved_to or _is_file_or_missing(file))]

    def remove(self) -> None:
        """Remove the list, and the listed folders that are empty."""
        folders = {self.folder / name for name in self._names() if name.endswith("/")}
        for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
            if self._is_here(folder) and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        self.begin()

    def begin(self) -> None:
        """Start a new list; the files of an existing one no longer belong to a run."""
        self.path.unlink(missing_ok=True)
        self._noted.clear()

    def _append(self, names: list[str]) -> None:
        if not names:
            return
        is_believed = bool(self._lines(self.path))
        with open(self.path, "ab" if is_believed else "wb", opener=unlisted_opener) as file:
            if not is_believed:
                file.write(_line(os.fstat(file.fileno()).st_ino))
            file.write(b"".join([b"\n", *map(_line, names)]))  # the previous line may be incomplete

    def _names(self, moved_to: Path | None = None) -> list[str]:
        _, *lines = self._lines(moved_to or self.path) or [b""]
        return [*dict.fromkeys(line for line in lines if isinstance(line, str) and _is_plain(line))]

    def _lines(self, path: Path) -> list[object]:
        """Return the parsed lines of the list, its inode number first; empty if the number is wrong."""
        try:
            with open(path, "rb", opener=unlisted_opener) as file:
                number, *lines = file.read(_LONGEST).splitlines() or [b""]
                is_believed = number == b"%d" % os.fstat(file.fileno()).st_ino
        except OSError:
            return []
        return [number, *map(_said, lines)] if is_believed else []

    def _name(self, place: Path) -> str:
        """Return the name of a path on the list, or ``""`` for a path outside the run directory."""
        for outer, prefix in ((self._linked, self._linked.name), (self.folder, "")):
            real = os.path.realpath(outer)
            if place.is_relative_to(real):
                return (prefix / place.relative_to(real)).as_posix()
        return ""

    def _is_here(self, path: Path) -> bool:
        return self._name(_place(path)) == path.relative_to(self.folder).as_posix()


def _place(path: str | os.PathLike[str]) -> Path:
    folder, name = os.path.split(os.path.abspath(path))
    return Path(os.path.realpath(folder), name)


def _is_plain(name: str) -> bool:
    parts = name.removesuffix("/").split("/")
    try:
        is_name = b"\0" not in os.fsencode(name)
    except ValueError:  # an incomplete character
        return False
    return is_name and not {"", ".", ".."}.intersection(parts) and not Path(name).anchor


def _is_file_or_missing(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError as error:
        return isinstance(error, FileNotFoundError)


def _said(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):  # after an incomplete write
        return None


def _line(value: object) -> bytes:
    return json.dumps(value).encode("ascii") + b"\n"
