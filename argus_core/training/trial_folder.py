"""The temporary folder of a dry run; several processes share that of the first."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import distributed

from argus_core.errors import ConflictError
from argus_core.parallel.group import control_group
from argus_core.tensors.processes import gather, is_first, process_count

__all__ = ["trial_folder"]

_PATIENCE = 600.0  # seconds, for the first process to remove the folder of a large model
_CPU = torch.device("cpu")


@contextmanager
def trial_folder() -> Iterator[Path]:
    """Return a folder that is removed after the block, in a run of several processes once all are through.

    Raises:
        ConflictError: the processes are on several hosts, which share no temporary folder.
    """
    if process_count() == 1:
        with _made() as folder:
            yield folder
        return
    if os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE")) != os.environ.get("WORLD_SIZE"):
        raise ConflictError(
            "a dry run keeps its checkpoints in a temporary folder, which processes of several hosts do not "
            "share; try the run on one host, without --nnodes"
        )
    group = control_group(_PATIENCE)
    if is_first():
        with _made() as folder:
            gather(str(folder), _CPU, group)
            yield folder
            distributed.barrier(group)
    else:
        yield Path(gather("", _CPU, group)[0])
        distributed.barrier(group)


@contextmanager
def _made() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="argus-dry-run-", ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()
