"""The formats of checkpoints, listed once: a new one is a class of `AbstractSaved` in `FORMATS`."""

from __future__ import annotations

from pathlib import Path

from argus_core.checkpoint.abstract_saved import AbstractSaved
from argus_core.checkpoint.contents import SavedFile
from argus_core.checkpoint.legacy import SavedState

__all__ = ["FORMATS", "open_checkpoint"]

FORMATS: tuple[type[AbstractSaved], ...] = (SavedState, SavedFile)
"""The formats in the order in which they are tried; the last one reports files of no format."""


def open_checkpoint(path: Path, verify: bool = True, sha256: str | None = None) -> AbstractSaved:
    """Return the contents of a checkpoint of any format; a context manager.

    Args:
        path: the file.
        verify: whether to compare every byte that is read with its checksum, where the format has checksums.
        sha256: the expected SHA-256 of the whole file, in hexadecimal, if it must be checked.

    Raises:
        CheckpointError: the file is missing, damaged, unsafe, newer, or not a checkpoint.
    """
    form = next(each for each in FORMATS if each.is_format_of(path))
    return form.open(path, verify, sha256)
