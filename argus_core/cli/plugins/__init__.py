"""``argus plugins``: what is installed, which provider wins a name, and what is wrong with it."""

from __future__ import annotations

import click

from argus_core.cli import Commands
from argus_core.cli.examples import examples

__all__ = ["command"]

_COMMANDS = ("list", "why", "doctor", "validate")


@click.group(
    "plugins",
    cls=Commands,
    package="argus_core.cli.plugins",
    names=_COMMANDS,
    epilog=examples(
        "argus plugins list",
        "argus plugins why cnn",
        "argus plugins doctor",
        "argus plugins validate argus-example",
        "argus plugins COMMAND --help",
    ),
)
def command() -> None:
    """Look at the installed plugins."""
