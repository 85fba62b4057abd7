"""Checkpoints on another disk: the folder that ``checkpoints`` links to is marked as the run's."""

from __future__ import annotations

import os
from pathlib import Path

from argus_core.errors import ConfigError
from argus_core.files.confinement import confined, opener, replacing
from argus_core.files.working_folder import shown

__all__ = ["OWNER", "check_checkpoints", "mark", "read_owner"]

OWNER = ".run-directory"
"""The file of the mark, which has the path of the run directory."""

_LONGEST = 2**13  # bytes of it


def check_checkpoints(checkpoints: Path, holds_run: bool) -> None:
    """Check that ``checkpoints`` is a folder or a link to one that is marked as this run's.

    Args:
        checkpoints: in a run directory; it need not exist.
        holds_run: whether there is a run already.

    Raises:
        ConfigError: it leads elsewhere, or is not a folder.
    """
    if not checkpoints.is_symlink():
        if os.path.lexists(checkpoints) and not checkpoints.is_dir():
            raise ConfigError(
                f"{shown(checkpoints)} is not a folder; a run keeps its checkpoints in that folder; "
                "remove the file"
            )
        return
    target, run = Path(os.path.realpath(checkpoints)), os.path.realpath(checkpoints.parent)
    if not target.is_dir():
        raise ConfigError(
            f"{shown(checkpoints)} is a symbolic link to {os.readlink(checkpoints)}, which does not "
            "exist; make that folder first, or remove the link"
        )
    if Path(run).is_relative_to(target):
        raise ConfigError(
            f"{shown(checkpoints)} is a symbolic link to {target}, which holds the run; remove it"
        )
    owner = read_owner(checkpoints)
    if run in (owner, owner.strip()) or not (owner or holds_run or any(target.iterdir())):
        return
    raise ConfigError(
        f"{shown(checkpoints)} is a symbolic link to {target}, which is not marked as this run's "
        f"({owner or f'no {OWNER} in it'}); remove the link, or, if you made it, write "
        f"{run} into {target / OWNER}"
    )


def mark(checkpoints: Path) -> None:
    """Mark the folder that ``checkpoints`` links to as the run's."""
    with replacing(checkpoints / OWNER, newline="\n", errors="surrogateescape") as file:
        file.write(f"{os.path.realpath(checkpoints.parent)}\n")


def read_owner(checkpoints: Path) -> str:
    """Return the run directory that a linked folder of checkpoints is marked with, or ``""``."""
    try:
        with (
            confined(checkpoints),
            open(checkpoints / OWNER, "rb", opener=opener) as file,
        ):
            owner = file.read(_LONGEST).decode("utf-8", "surrogateescape").removesuffix("\n")
            return "" if "\0" in owner else owner
    except OSError:
        return ""
