"""Checks of the files that the callbacks of one run write."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from logging import Logger
from typing import Any

from argus_core.callbacks.checkpoints import Checkpoint
from argus_core.callbacks.csv_log import LoggingToCSV
from argus_core.callbacks.logs import LoggingToFile, MetricsJSONL
from argus_core.callbacks.names import may_coincide, path_pattern
from argus_core.errors import CheckpointError, ConflictError
from argus_core.files.working_folder import shown

__all__ = ["check_apart", "check_kept", "choose_forms"]


def choose_forms(callbacks: Iterable[Any], has_shards: bool) -> None:
    """Let checkpoint callbacks choose files or folders, by whether the processes of the run hold shards."""
    for each in _checkpoints(callbacks):
        each.choose_form(has_shards)


def check_apart(callbacks: Iterable[Any]) -> None:
    """Check, before a run starts, that no two of its callbacks, validation's included, write the same file.

    Raises:
        ConflictError: two would overwrite or delete each other's files, or mix what they write.
    """
    callbacks = [*callbacks]
    _check_tables_apart(callbacks)
    patterns = [(each, each.path_pattern()) for each in _checkpoints(callbacks)]
    for (one, ours), (other, theirs) in itertools.combinations(patterns, 2):
        if may_coincide(ours, theirs):
            raise ConflictError(
                f"{one.name} with file_format={one.file_format!r} and {other.name} with "
                f"file_format={other.file_format!r} may write files of the same name in "
                f"{shown(one.dir_path)}, and would overwrite and delete each other's; give one of them "
                "another file_format or dir_path"
            )


def _check_tables_apart(callbacks: list[Any]) -> None:
    """Check that each table has one writer; a log may have several, since its lines carry the time."""
    writers = [each for each in callbacks if isinstance(each, LoggingToFile | LoggingToCSV | MetricsJSONL)]
    for writer, checkpoint in itertools.product(writers, _checkpoints(callbacks)):
        if may_coincide(path_pattern(writer.file_path), checkpoint.path_pattern()):
            raise ConflictError(
                f"{writer.name} writes {shown(writer.file_path)}, which {checkpoint.name} with "
                f"file_format={checkpoint.file_format!r} may use for a checkpoint; give one of them "
                "another path"
            )
    for one, other in itertools.combinations(writers, 2):
        if isinstance(one, LoggingToFile) and isinstance(other, LoggingToFile):
            continue
        path = os.path.realpath(one.file_path)
        if path == os.path.realpath(other.file_path) and (os.path.isfile(path) or not os.path.exists(path)):
            raise ConflictError(
                f"{one.name} and {other.name} both write {shown(one.file_path)}; give one of them another "
                "file_path"
            )


def check_kept(callbacks: Iterable[Any], logger: Logger) -> None:
    """Check, after a run, that it kept a checkpoint if some were due.

    Raises:
        CheckpointError: no callback has kept one. Where some have, the others are only logged.
    """
    checkpoints = _checkpoints(callbacks)
    missing = [reason for each in checkpoints if (reason := each.missing_files()) is not None]
    if missing and not any(each.has_kept for each in checkpoints):
        raise CheckpointError(
            f"the run ended and kept no checkpoint: {'; '.join(missing)}; lower the learning rate, or "
            "check the data and the metric, and train again"
        )
    for reason in missing:
        logger.warning("%s", reason)


def _checkpoints(callbacks: Iterable[Any]) -> list[Checkpoint]:
    return [each for each in callbacks if isinstance(each, Checkpoint)]
