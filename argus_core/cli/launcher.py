"""The launcher of several processes: torchrun's, without its own traceback after a process's error.

``argus train --nproc-per-node N`` runs it as a module. A process that fails has printed its error, and the
launcher ends with that process's exit status.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence
from typing import Any

from argus_core.cli.output import echo_sentence

__all__ = ["exit_status", "main"]


def main(arguments: Sequence[str]) -> None:
    """Run torchrun with these arguments, and end as the first process that failed did.

    Raises:
        SystemExit: a process has failed, or a signal has ended the launcher.
    """
    import torch.distributed.run as torchrun  # lazy: it takes seconds
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    run: Any = torchrun  # which has no types
    options = run.parse_args(list(arguments))
    if not options.max_restarts:
        _be_quiet()
    try:
        run.run(options)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:  # it could not say anything itself
            echo_sentence(_killed(rank, -failure.exitcode, failure.pid))
        raise SystemExit(exit_status(failure.exitcode)) from None
    except SignalException as ended:
        raise SystemExit(128 + ended.sigval) from None


def exit_status(exitcode: int) -> int:
    """Return the exit status for a process's exit code, which is negative after a signal."""
    return exitcode if exitcode >= 0 else 128 - exitcode


def _killed(rank: Any, signum: int, process: int) -> str:
    names = {each.value: each.name for each in signal.Signals}
    return (
        f"error: process {rank} (pid {process}) was ended by {names.get(signum, f'signal {signum}')}; the "
        "system's log may say more, and the run can be resumed from its last checkpoint (argus resume)"
    )


def _be_quiet() -> None:
    """Drop torchrun's log of a group that has failed; with restarts, its lines say what was restarted."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


if __name__ == "__main__":
    main(sys.argv[1:])
