"""The newest checkpoint in a folder that a run can be resumed from."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from argus_core.callbacks.written import run_in, times_resumed
from argus_core.errors import ArgusWarning, CheckpointError
from argus_core.files.output_files import checked_path
from argus_core.storage import read_header
from argus_core.storage.forms import checkpoints_in, is_folder

__all__ = ["find_checkpoint", "most_resumed"]

_UNREADABLE = (CheckpointError, KeyError, TypeError, ValueError)


def find_checkpoint(path: str | Path, own: Path | None = None) -> Path:
    """Return the checkpoint to resume from: the file itself, or the newest of its run in a folder.

    Args:
        path: the checkpoint or folder.
        own: a file in the folder; its run is resumed if it can be, and otherwise the one that saved last.

    Raises:
        ParamsError: it is not a path.
        CheckpointError: the folder has none.
    """
    path = checked_path("fit", "resume", path)
    if is_folder(path) or not path.is_dir():
        return path
    files = sorted([*checkpoints_in(path), *checkpoints_in(path / "checkpoints")])
    found = {file: place for file in files if (place := _place_of(file)) is not None}
    if not found:
        start = "if the run ended before its first, start it over with argus train and --overwrite"
        write = "write them by the callback checkpoint with optimizer_state=True"
        raise CheckpointError(
            f"{path} holds no checkpoint that a run can resume from ({len(files)} checkpoints in all); "
            f"{write if own is None else start}"
        )
    written = {file: file.stat().st_mtime_ns for file in found}
    runs = {place.run for place in found.values()}
    first = own if own is not None and own in found else max(found, key=written.__getitem__)
    if len(runs) > 1:
        which = f"{first.name} is of" if first == own else "saved last"
        warnings.warn(
            f"{path} holds checkpoints of {len(runs)} runs; the run that {which} is resumed; give a file "
            "instead of the folder to choose another",
            ArgusWarning,
            stacklevel=3,
        )
    own_files = [file for file, place in found.items() if place.run == found[first].run]
    return max(own_files, key=lambda file: (*found[file][1:], written[file]))


def most_resumed(path: Path, run: str | None) -> int:
    """Return the number of times that a run has been resumed, as its checkpoints beside ``path`` record."""
    counts = [0]
    for file in checkpoints_in(path.parent):
        with suppress(*_UNREADABLE):  # such a file records nothing about the run
            place = _read_place(file)
            counts += [place.times_resumed] if place is not None and place.run == run else []
    return max(counts)


class _Place(NamedTuple):
    """The place of a checkpoint in its run, whose identifier is ``run``.

    A checkpoint that was written after the run was resumed more often is newer, even with fewer updates.
    """

    run: str | None
    times_resumed: int
    updates: int


def _place_of(file: Path) -> _Place | None:
    """Return the place of a checkpoint in its run; ``None`` if no run can resume from it."""
    try:
        return _read_place(file)
    except _UNREADABLE as error:
        warnings.warn(f"{file} is skipped: {error}", ArgusWarning, stacklevel=4)
        return None


def _read_place(file: Path) -> _Place | None:
    manifest = read_header(file).manifest
    progress = manifest.get("progress")
    if not progress:
        return None
    return _Place(run_in(manifest), times_resumed(manifest), int(progress["counters"]["global_step"]))
