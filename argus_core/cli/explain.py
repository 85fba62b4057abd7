"""``argus explain``: draw one optimizer update before anything runs."""

from __future__ import annotations

from pathlib import Path

import click

from argus_core.cli.building_command import BuildingCommand
from argus_core.cli.examples import examples
from argus_core.cli.options import CHANGES
from argus_core.cli.output import echo_text

__all__ = ["command"]


@click.command(
    "explain",
    cls=BuildingCommand,
    epilog=examples(
        "argus explain examples/digits.toml",
        'argus explain examples/digits.toml --set \'step=["amp", ["accumulate", {steps=4}]]\'',
    ),
)
@click.argument("config", type=click.Path(path_type=Path))
@CHANGES
def command(config: Path, changes: tuple[str, ...]) -> None:
    """Draw one optimizer update of CONFIG, step by step.

    CONFIG is a TOML file. Each step of the update is shown with the step strategies that act in it (such as
    amp or accumulate) and their packages. The model is built, but not trained.
    """
    from argus_core.config import read_config  # lazy: --help does not need it

    chosen = read_config(config, changes)
    from argus_core.runs.run import build_model  # imports torch

    echo_text(build_model(chosen, initial_values_wanted=False).explain())
