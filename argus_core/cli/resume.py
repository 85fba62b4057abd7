"""``argus resume``: go on with a run that was stopped."""

from __future__ import annotations

from pathlib import Path

import click

from argus_core.cli.examples import examples
from argus_core.cli.options import CHANGES
from argus_core.cli.torch_command import TorchCommand
from argus_core.cli.train import report, saying_how_to_go_on
from argus_core.tensors.single_process import check_single_process

__all__ = ["command"]


@click.command(
    "resume",
    cls=TorchCommand,
    epilog=examples(
        "argus resume runs/digits",
        "argus resume runs/digits --set num_epochs=20",
        "argus resume runs/digits/checkpoints/last.safetensors --set device=cpu",
    ),
)
@click.argument("run", type=click.Path(path_type=Path))
@CHANGES
def command(run: Path, changes: tuple[str, ...]) -> None:
    """Go on with RUN, a run directory or one of its checkpoints, as if it had never stopped.

    It goes on from the newest checkpoint, in the middle of an epoch too, up to num_epochs in all. Ctrl-C,
    SIGTERM, SIGHUP and SIGUSR1 end a run after the present update; it saves first, and exits with 130, 143,
    129 or 138.
    """
    from argus_core.runs.directory import RunDirectory  # which asking for help need not wait for

    check_single_process("argus resume")
    directory = RunDirectory.of(run)  # before the seconds that torch takes
    from argus_core.runs.run import resume  # imports torch

    with saying_how_to_go_on(directory) as witness:
        report(resume(run, changes, [witness]))
