"""Several runs in one process, in sequence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from argus_core.files.working_folder import beginning_in, working_folder
from argus_core.tensors.single_process import check_single_process
from argus_core.training.interruption import listening

__all__ = ["run_series"]


@contextmanager
def run_series(command: str) -> Iterator[None]:
    """Allow several runs in the block, in sequence, as one command.

    A signal ends the current run, and `check_interruption` raises it between two of them. Relative paths are
    taken from the folder in which the block began, also when a run changes the working directory.

    Args:
        command: its name, for messages: ``"argus sweep"``.

    Raises:
        ConfigError: several processes would do so, or the working directory was removed.
        KeyboardInterrupt, SystemExit: a signal came; as if it had ended the process.
    """
    check_single_process(command)
    with beginning_in(working_folder()), listening():
        yield
