"""``argus plugins``: list, check and explain the installed plugins."""

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
    """List, check and explain the installed plugins.

    A plugin is an installed package that provides components: networks, losses, metrics and so on.
    """
