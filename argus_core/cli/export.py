"""``argus export``: write the network's state of a checkpoint to a plain file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from argus_core.cli.building_command import BuildingCommand
from argus_core.cli.examples import examples
from argus_core.cli.output import echo
from argus_core.runs.outputs import check_output

__all__ = ["command"]


@click.command(
    "export",
    cls=BuildingCommand,
    epilog=examples(
        "argus export runs/digits/checkpoints/best.safetensors network.safetensors",
        "argus export runs/digits/checkpoints/best.safetensors network.pt --weights trained --overwrite",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Overwrite OUT if it exists.")
@click.option("--weights", type=click.Choice(["average", "trained"]),
              help="Choose the weights of a run with step ema (default: average).")  # fmt: skip
def command(file: Path, out: Path, overwrite: bool, weights: str | None) -> None:
    """Write the network's weights in FILE to OUT.

    FILE is a checkpoint, and OUT a file for programs without argus_core. An OUT that ends in .safetensors is
    a plain safetensors file; one that ends in .pt or .pth is a state dict written by torch.save. Tensors have
    the names of the state dict. The weights are those that validation and argus predict use. The command
    checks every byte of FILE, builds no model, and needs no package that FILE names.
    """
    check = partial(check_output, out, file, overwrite=overwrite)
    check()
    from argus_core.model.conversion import export  # imports torch

    count, strategy = export(file, out, weights, check)  # another program may put a file there meanwhile
    which = (
        f", averages of step strategy {strategy!r}; --weights trained exports the others" if strategy else ""
    )
    echo(f"network: {out} ({count} tensors{which})")
