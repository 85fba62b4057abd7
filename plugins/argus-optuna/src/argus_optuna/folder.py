"""Checks of a study's folder, which may be untrusted: a sweep must not write outside of it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from argus_core import ConfigError
from argus_core.authors import open_ordinary

__all__ = ["check_folder"]

# The end of a journal of SQLite that names another journal, which SQLite would delete.
_NAMES_A_FILE = bytes.fromhex("d9d505f920a163d7")


def check_folder(path: Path) -> None:
    """Check the files that a sweep opens and writes in a study's folder; the folder itself may be a link.

    Raises:
        ConfigError: a file is a link or not ordinary, or would make SQLite delete another file.
    """
    for each in (path / "locks", path / "best.safetensors", *path.glob("trial-*")):
        _check_no_link(each)
    for file in (*path.glob("study.db*"), *path.glob("locks/*")):
        _check_no_link(file)
        with suppress(FileNotFoundError):  # another process deleted it
            _check_file(file)


def _check_no_link(path: Path) -> None:
    if path.is_symlink():
        raise ConfigError(
            f"{path} is a symbolic link; a sweep writes only to files in its study's folder; "
            "replace the link with the file"
        )


def _check_file(file: Path) -> None:
    status = file.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{file} is not an ordinary file; a sweep writes only to ordinary files; remove it")
    if status.st_nlink > 1:
        raise ConfigError(
            f"{file} is a hard link to a file elsewhere; a sweep writes only to files in its study's folder; "
            "replace the link with a copy"
        )
    if file.name.endswith("-journal") and _names_a_file(file):
        raise ConfigError(
            f"{file} would make SQLite delete another file; do not trust this folder, or remove the file"
        )


def _names_a_file(journal: Path) -> bool:
    with open_ordinary(journal) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(_NAMES_A_FILE)))
        return file.read() == _NAMES_A_FILE
