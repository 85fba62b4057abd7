"""A study's folder, which may come from somebody else: nothing in it leads a sweep out of it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from argus_core import ConfigError
from argus_core.authors import open_ordinary

__all__ = ["check_folder"]

# How the name of another journal ends in one of SQLite's, which deletes that file: it may be any.
_NAMES_A_FILE = bytes.fromhex("d9d505f920a163d7")


def check_folder(path: Path) -> None:
    """Check what a sweep opens and writes in a study's folder; the folder itself may be a link.

    Raises:
        ConfigError: some of it is a link, or no ordinary file, or has SQLite delete another file.
    """
    for each in (path / "locks", path / "best.safetensors", *path.glob("trial-*")):
        _check_no_link(each)
    for file in (*path.glob("study.db*"), *path.glob("locks/*")):
        _check_no_link(file)
        with suppress(FileNotFoundError):  # of another process, which has let go of it
            _check_file(file)


def _check_no_link(path: Path) -> None:
    if path.is_symlink():
        raise ConfigError(
            f"{path} is a symbolic link; a sweep writes only to files that lie in its study's folder; "
            "remove the link, or put what it leads to in its place"
        )


def _check_file(file: Path) -> None:
    status = file.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{file} is not an ordinary file; a sweep writes only to ordinary files; remove it")
    if status.st_nlink > 1:
        raise ConfigError(
            f"{file} has another name elsewhere; a sweep writes only to files of its own; "
            "put a copy in its place"
        )
    if file.name.endswith("-journal") and _names_a_file(file):
        raise ConfigError(
            f"{file} would have SQLite delete another file, which a sweep never does; "
            "do not trust this folder, or remove the file"
        )


def _names_a_file(journal: Path) -> bool:
    with open_ordinary(journal) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(_NAMES_A_FILE)))
        return file.read() == _NAMES_A_FILE
