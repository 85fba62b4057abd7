"""``argus convert``: convert a checkpoint of pytorch-argus, or ours between a file and a folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from argus_core.cli.building_command import BuildingCommand
from argus_core.cli.examples import examples
from argus_core.cli.output import echo
from argus_core.runs.outputs import check_output
from argus_core.storage.forms import SUFFIXES

__all__ = ["command"]


@click.command(
    "convert",
    cls=BuildingCommand,
    epilog=examples(
        "argus convert old.pth model.safetensors",
        "argus convert last.sharded last.safetensors",
        "argus convert old.pth plain.safetensors --model Model --nn-module cnn --loss none --optimizer AdamW",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--model", "model_name", metavar="NAME",
              help="Use this registered model class instead of the one in FILE.")  # fmt: skip
@click.option("--nn-module", metavar="NAME", help="Name the network, if FILE does not.")
@click.option("--loss", metavar="NAME", help="Name the loss, if FILE does not; none: without a loss.")
@click.option("--optimizer", metavar="NAME", help="Name the optimizer, if FILE does not; none: without one.")
@click.option("--prediction-transform", metavar="NAME",
              help="Name the prediction transform, if FILE does not; none: without one.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Overwrite OUT if it exists.")
def command(file: Path, out: Path, model_name: str | None, overwrite: bool, **parts: str | None) -> None:
    """Convert FILE to OUT, a checkpoint of argus_core: a .safetensors file or a .sharded folder.

    FILE may be a checkpoint of argus_core in the other form. Its contents are verified and written as they
    are; no component is needed.

    FILE may be a .pth file of pytorch-argus. The command then builds the model from
    registered names on the CPU, loads its state, and saves it, with the optimizer's state if FILE has it.
    Nothing that FILE names is imported. A component that an option names gets its parameters from FILE.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise click.UsageError(f"OUT is {str(out)!r}; give a name that ends in {' or '.join(SUFFIXES)}")
    check = partial(check_output, out, file, overwrite=overwrite)
    check()
    from argus_core.model.conversion import change_form, convert  # imports torch

    names = {part: name for part, name in parts.items() if name is not None}
    if model_name is None and not names and change_form(file, out, check):
        echo(f"checkpoint: {out}")
        return
    # Another program may put a file there meanwhile.
    model, left_out = convert(file, out, model_name, names, check)
    if left_out:
        echo(f"omitted from params, since the plain Model does not take them: {', '.join(left_out)}")
    made = [f"{slot} {part.name}" if part else f"no {slot}" for slot, part in model.parts.items()]
    echo(f"checkpoint: {out} (model {type(model).__name__}: {', '.join(made)})")
