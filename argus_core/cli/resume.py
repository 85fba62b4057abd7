"""``argus resume``: resume a training run that was stopped."""

from __future__ import annotations

from pathlib import Path

import click

from argus_core.cli.examples import examples
from argus_core.cli.launching_command import LaunchingCommand
from argus_core.cli.options import CHANGES
from argus_core.cli.train import recorded, report, saying_how_to_resume
from argus_core.tensors.single_process import is_first_started

__all__ = ["command"]


@click.command(
    "resume",
    cls=LaunchingCommand,
    epilog=examples(
        "argus resume runs/digits",
        "argus resume runs/digits --set num_epochs=20",
        "argus resume runs/digits --set num_updates=20000",
        "argus resume runs/digits/checkpoints/last.safetensors --set device=cpu",
        "argus resume runs/digits --nproc-per-node 2",
    ),
)
@click.argument("run", type=click.Path(path_type=Path))
@CHANGES
def command(run: Path, changes: tuple[str, ...]) -> None:
    """Resume RUN, a training run that was stopped.

    RUN is a run directory or one of its checkpoints. The run resumes from its newest checkpoint, also in the
    middle of an epoch, and trains until num_epochs, num_updates or max_time in total. Results equal those of
    a run without a stop.

    Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 stop a run after the current update. It saves a checkpoint and exits
    with status 130, 143, 129 or 138.
    """
    from argus_core.runs.directory import RunDirectory  # lazy: --help does not need it

    directory = RunDirectory.of(run)  # before torch is imported, which takes seconds
    from argus_core.runs.run import resume  # imports torch

    with saying_how_to_resume(directory) as witness:
        result = recorded(resume)(run, changes, [witness])
    if is_first_started():
        report(result)
