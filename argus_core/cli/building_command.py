"""Commands that build the parts of a model or a run: they first import the project's own parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from argus_core.cli.output import echo
from argus_core.cli.torch_command import TorchCommand
from argus_core.tensors.single_process import is_first_started

__all__ = ["BuildingCommand", "parts_options"]

_PARTS = "argus_core.parts"


class BuildingCommand(TorchCommand):
    """A command that builds parts: before it runs, it imports the project's own, and those of ``--parts``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.params.append(_parts_option())

    def prepare(self, ctx: click.Context) -> None:
        """Import the modules that the nearest pyproject.toml and the option name."""
        from argus_core.registry.own_parts import OPTION, OwnPart, import_parts, project_parts  # lazy

        own = project_parts()
        if own and is_first_started():
            echo(f"parts: {', '.join(part.written for part in own)} ({own[0].source})", err=True)
        import_parts([*own, *(OwnPart(each, Path(), OPTION) for each in ctx.meta.get(_PARTS, ()))])


def parts_options() -> list[str]:
    """Return the options by which another command gets the ``--parts`` of the current one."""
    return [word for each in click.get_current_context().meta.get(_PARTS, ()) for word in ("--parts", each)]


def _parts_option() -> click.Option:
    def remember(ctx: click.Context, _: click.Parameter, given: tuple[str, ...]) -> None:
        ctx.meta[_PARTS] = given

    return click.Option(
        ["--parts"],
        multiple=True,
        metavar="FILE",
        expose_value=False,
        callback=remember,
        help="Import FILE, or a module, which registers parts of your own; repeatable.",
    )
