"""Output files that a user names on the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from argus_core.errors import ArgusError

if TYPE_CHECKING:
    from argus_core.runs.directory import RunDirectory

__all__ = ["check_output"]


def check_output(output: Path, *inputs: Path, overwrite: bool) -> None:
    """Check, before any work, that ``output`` may be written.

    Args:
        output: the file.
        inputs: what is read, whatever it is called; it is never written.
        overwrite: whether a file that is there may be replaced: what a link leads to, in the place of which
            the link stays. A run directory may be a stranger's, so links in one are refused.

    Raises:
        ArgusError: it may not.
    """
    if any(_is_same(output, file) for file in inputs):
        raise ArgusError(f"{output} is also the input; choose another output file")
    for directory in _runs_around(output):
        if directory.owns(output):
            raise ArgusError(f"{output} is a file of the run in {directory.path}; choose another output file")
        directory.check_inside(output)
    if os.path.lexists(output) and not overwrite:
        raise ArgusError(f"{output} exists already; choose another output file, or add --overwrite")


def _is_same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _runs_around(output: Path) -> Iterator[RunDirectory]:
    """Yield the run directories that may contain a file, by its path and by its resolved path."""
    from argus_core.runs.directory import RunDirectory  # a command that is asked for help needs none

    for path in (os.path.abspath(output), os.path.realpath(output)):
        folder = Path(path).parent
        yield RunDirectory(folder)
        yield RunDirectory(folder.parent)
        marked = RunDirectory.marked_in(folder)
        if marked is not None:
            yield marked
