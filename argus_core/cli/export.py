"""``argus export``: the network's state of a checkpoint as a plain file."""

from __future__ import annotations

from pathlib import Path

import click

from argus_core.cli.examples import examples
from argus_core.outputs import check_output

__all__ = ["command"]


@click.command(
    "export",
    epilog=examples(
        "argus export runs/digits/checkpoints/best.safetensors network.safetensors",
        "argus export runs/digits/checkpoints/best.safetensors network.pt --overwrite",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace OUT if it is there.")
def command(file: Path, out: Path, overwrite: bool) -> None:
    """Write the state dict of the network in the checkpoint FILE to OUT, for other programs.

    OUT is a plain safetensors file if it ends in .safetensors, and what torch.save makes of a state dict if
    it ends in .pt or .pth. The names are those of the state dict. Every byte is checked; nothing is built,
    and no package that FILE names is needed.
    """
    check_output(out, file, overwrite=overwrite)
    from argus_core.conversion import export  # imports torch

    count = export(file, out)
    click.echo(f"network: {out} ({count} tensors)")
