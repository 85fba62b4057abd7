"""The command ``argus``: a file for each sub-command, imported when it is called.

Importing a sub-command imports no torch; one that trains or predicts does so when it runs.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from argus_core.cli.examples import examples
from argus_core.errors import ArgusError, ArgusWarning, near

__all__ = ["Commands", "main"]

_COMMANDS = (
    "train", "resume", "list", "show", "explain", "inspect", "predict", "convert", "export",
    "plugins", "new-plugin",
)  # fmt: skip
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_TRACEBACK = "argus_core.traceback"


class Commands(click.Group):
    """The sub-commands; what argus_core refuses becomes one line on standard error and exit status 1.

    Args:
        package: where the module of each sub-command is.
        names: the sub-commands, each a module with a ``command``.
    """

    def __init__(self, *args: Any, package: str, names: tuple[str, ...], **options: Any) -> None:
        super().__init__(*args, **options)
        self.package = package
        self.names = names

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.names]  # `list` is a module of this package

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.names:
            return None
        command: click.Command = importlib.import_module(
            f"{self.package}.{cmd_name.replace('-', '_')}"
        ).command
        if all(parameter.name != "traceback" for parameter in command.params):
            command.params.append(_traceback_option())
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.names and not args[0].startswith("-"):
            hint = near(args[0], self.names) or f"; the commands are {', '.join(self.names)}"
            ctx.fail(f"no command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with _plain_warnings():
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                click.echo("interrupted", err=True)
                ctx.exit(_INTERRUPTED)
            except ArgusError as error:
                if ctx.meta.get(_TRACEBACK) or os.environ.get("ARGUS_TRACEBACK", "") not in ("", "0"):
                    raise
                click.echo(f"error: {error}", err=True)
                ctx.exit(1)


@click.group(
    cls=Commands,
    package="argus_core.cli",
    names=_COMMANDS,
    epilog=examples(
        "argus list                              what there is to choose from",
        "argus train examples/digits.toml        train",
        "argus COMMAND --help                    more about a command",
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, help="Print the version.",
              callback=lambda ctx, _, asked: _print_version(ctx) if asked else None)  # fmt: skip
def main() -> None:
    """Train, save and load PyTorch models whose every part is chosen by name."""


def _print_version(ctx: click.Context) -> None:
    from argus_core.components import BUILTIN  # what reads metadata takes a while to import
    from argus_core.distributions import version_of

    click.echo(f"{BUILTIN} {version_of(BUILTIN)}")
    ctx.exit()


def _traceback_option() -> click.Option:
    def remember(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
        if asked:
            ctx.meta[_TRACEBACK] = True

    return click.Option(
        ["--traceback"],
        is_flag=True,
        expose_value=False,
        callback=remember,
        help="Show where an error was raised (also: ARGUS_TRACEBACK=1).",
    )


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show argus_core's own warnings in one line, without the place in the code."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_plainly(message: Any, category: type[Warning], *place: Any, **options: Any) -> None:
            if issubclass(category, ArgusWarning):
                click.echo(f"warning: {message}", err=True)
            else:
                show(message, category, *place, **options)

        warnings.showwarning = show_plainly
        yield
