"""``argus explain``: one optimizer update as a drawing, before anything runs."""

from __future__ import annotations

from pathlib import Path

import click

from argus_core.cli.examples import examples
from argus_core.cli.options import CHANGES
from argus_core.cli.output import echo_text
from argus_core.cli.torch_command import TorchCommand

__all__ = ["command"]


@click.command(
    "explain",
    cls=TorchCommand,
    epilog=examples(
        "argus explain examples/digits.toml",
        'argus explain examples/digits.toml --set \'step=["amp", ["accumulate", {steps=4}]]\'',
    ),
)
@click.argument("config", type=click.Path(path_type=Path))
@CHANGES
def command(config: Path, changes: tuple[str, ...]) -> None:
    """Draw one optimizer update of CONFIG.

    Every slot, who sits in it and from which package; nothing is trained.
    """
    from argus_core.config import read_config  # which asking for help need not wait for

    chosen = read_config(config, changes)
    from argus_core.runs.run import build_model  # imports torch

    echo_text(build_model(chosen, initial_values_wanted=False).explain())
