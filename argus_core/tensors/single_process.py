"""The number of a run's processes, and the check that a command for one is not started in several."""

from __future__ import annotations

import os
import sys

from argus_core.errors import ConfigError

__all__ = [
    "check_single_process",
    "is_first_process",
    "is_first_started",
    "is_restarted",
    "met_processes",
    "started_processes",
]


def started_processes() -> int:
    """Return how many processes the run has: those that torchrun has started, or those of the group."""
    return max(_started(), met_processes())


def check_single_process(what: str) -> None:
    """Check that this is the only process of a run.

    Args:
        what: the subject of the message.

    Raises:
        ConfigError: a launcher such as torchrun has started several, or a process group has several.
    """
    count = started_processes()
    if count > 1:
        raise ConfigError(
            f"{what} runs in {count} processes; it works in one; start it without torchrun, or with "
            "--nproc-per-node 1"
        )


def _started() -> int:
    """Return the number of processes that the environment declares, as torchrun sets it."""
    text = os.environ.get("WORLD_SIZE", "")
    return int(text) if text.isascii() and text.isdigit() else 1


def is_first_started() -> bool:
    """Return whether this is the first of the processes that a launcher has started."""
    return os.environ.get("RANK", "0") == "0"


def is_restarted() -> bool:
    """Return whether the launcher has started the processes again, after one has died."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def is_first_process() -> bool:
    """Return whether this process has rank 0; as `processes.is_first`, without torch."""
    return met_processes() == 1 or sys.modules["torch.distributed"].get_rank() == 0


def met_processes() -> int:
    """Return the number of processes in the group, without torch."""
    distributed = sys.modules.get("torch.distributed")  # without the import there is no process group
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return 1
    return int(distributed.get_world_size())
