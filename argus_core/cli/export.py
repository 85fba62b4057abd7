"""``argus export``: the network's state of a checkpoint as a plain file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from argus_core.cli.examples import examples
from argus_core.cli.output import echo
from argus_core.cli.torch_command import TorchCommand
from argus_core.runs.outputs import check_output

__all__ = ["command"]


@click.command(
    "export",
    cls=TorchCommand,
    epilog=examples(
        "argus export runs/digits/checkpoints/best.safetensors network.safetensors",
        "argus export runs/digits/checkpoints/best.safetensors network.pt --weights trained --overwrite",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace OUT if it is there.")
@click.option("--weights", type=click.Choice(["average", "trained"]),
              help="Of a run with averages, as of step ema; by default the averages.")  # fmt: skip
def command(file: Path, out: Path, overwrite: bool, weights: str | None) -> None:
    """Write the state dict of the network in the checkpoint FILE to OUT, for other programs.

    OUT is a plain safetensors file if it ends in .safetensors, and what torch.save makes of a state dict if
    it ends in .pt or .pth. The names are those of the state dict. The weights are those that validation and
    argus predict use. Every byte is checked; nothing is built, and no package that FILE names is needed.
    """
    check = partial(check_output, out, file, overwrite=overwrite)
    check()
    from argus_core.model.conversion import export  # imports torch

    count, strategy = export(file, out, weights, check)  # another program may put a file there meanwhile
    which = (
        f", averages of step strategy {strategy!r}; --weights trained exports the others" if strategy else ""
    )
    echo(f"network: {out} ({count} tensors{which})")
