"""``argus convert``: a checkpoint of pytorch-argus as one of ours."""

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
    "convert",
    cls=TorchCommand,
    epilog=examples(
        "argus convert old.pth model.safetensors",
        "argus convert old.pth plain.safetensors --model Model --nn-module cnn --loss none --optimizer AdamW",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--model", "model_name", metavar="NAME",
              help="A registered model class in place of the file's; Model is the plain one.")  # fmt: skip
@click.option("--nn-module", metavar="NAME", help="The network, if only the file's class knows it.")
@click.option("--loss", metavar="NAME", help="The loss, likewise; none leaves it out.")
@click.option("--optimizer", metavar="NAME", help="The optimizer, likewise; none leaves it out.")
@click.option("--prediction-transform", metavar="NAME", help="The transform, likewise; none leaves it out.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it is there.")
def command(file: Path, out: Path, model_name: str | None, overwrite: bool, **parts: str | None) -> None:
    """Write FILE, a .pth checkpoint of pytorch-argus, as OUT, a .safetensors checkpoint of argus_core.

    The model is built by the registered names and loaded, on the CPU, then saved with the optimizer's state
    if FILE has it. Nothing that FILE names is imported. Components that are named keep the parameters that
    FILE has for them.
    """
    if out.suffix.lower() != ".safetensors":
        raise click.UsageError(f"{out} is not called as a checkpoint is; give a name in .safetensors")
    check = partial(check_output, out, file, overwrite=overwrite)
    check()
    from argus_core.model.conversion import convert  # imports torch

    names = {part: name for part, name in parts.items() if name is not None}
    # Another program may put a file there meanwhile.
    model, left_out = convert(file, out, model_name, names, check)
    if left_out:
        echo(f"left out of params, which the plain Model does not take: {', '.join(left_out)}")
    made = [f"{slot} {part.name}" if part else f"no {slot}" for slot, part in model.parts.items()]
    echo(f"checkpoint: {out} (model {type(model).__name__}: {', '.join(made)})")
