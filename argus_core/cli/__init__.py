"""The command ``argus``: a file for each sub-command, imported when it is called.

Importing a sub-command imports no torch; one that trains or predicts does so when it runs. A sub-command that
is not built in is a component of kind ``command``: metadata are read only when such a one is asked for.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from argus_core.cli.examples import examples
from argus_core.cli.output import (
    echo,
    echo_sentence,
    plain_warnings,
    show_exception,
    usage_errors,
    write_any_text,
)
from argus_core.errors import ArgusError, near
from argus_core.files.standard_streams import lasting

__all__ = ["Commands", "PluggableCommands", "main"]

_COMMANDS = (
    "train", "resume", "list", "show", "explain", "inspect", "predict", "convert", "export", "plugins",
    "new-plugin",
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

    def main(self, *args: Any, **options: Any) -> Any:
        if sys.excepthook is sys.__excepthook__:
            sys.excepthook = (
                show_exception  # of errors that are not argus_core's, or asked for by --traceback
            )
        return super().main(*args, **options)

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with usage_errors():
            return super().make_context(*args, **options)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.names]  # `list` is a module of this package

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.names:
            return None
        module = cmd_name.replace("-", "_")
        command: click.Command = importlib.import_module(f"{self.package}.{module}").command
        return _with_traceback(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.names and not args[0].startswith("-"):
            reason = self.unknown(args[0])
            if reason:
                ctx.fail(reason)
        return super().resolve_command(ctx, args)

    def unknown(self, name: str) -> str:
        """Return what to say of a command that is not one of `names`, or ``""`` if there is one after all."""
        hint = near(name, self.names) or f"; the commands are {', '.join(self.names)}"
        return f"no command {name!r}{hint}"

    def invoke(self, ctx: click.Context) -> Any:
        write_any_text()
        with plain_warnings():
            try:
                with usage_errors():
                    return super().invoke(ctx)
            except KeyboardInterrupt:
                echo("interrupted", err=True)
                ctx.exit(_INTERRUPTED)
            except Exception as error:
                sentence = _sentence(error)
                wants_traceback = os.environ.get("ARGUS_TRACEBACK", "") not in ("", "0")
                if not sentence or ctx.meta.get(_TRACEBACK) or wants_traceback:
                    raise
                echo_sentence(f"error: {sentence}")
                ctx.exit(1)


class PluggableCommands(Commands):
    """The sub-commands, and the components of kind ``command`` that plugins add."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command; one whose output nobody reads any more ends as it would have ended."""
        try:
            with lasting() as errors:
                return super().main(*args, **options)
        except SystemExit as ended:
            if errors and not ended.code:
                reason = errors[0].strerror
                echo_sentence(f"error: the output cannot be written: {reason}; write it elsewhere")
                ended.code = 1
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands for the help text; a plugin's with its provider, since it is not imported."""
        super().format_commands(ctx, formatter)
        from argus_core.cli.plugin_commands import described  # what reads metadata takes a while to import

        rows = described(self.names)
        if rows:
            with formatter.section("Commands of plugins"):
                formatter.write_dl(rows)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.names or cmd_name.startswith("-"):
            return super().get_command(ctx, cmd_name)
        from argus_core.cli.plugin_commands import load
        from argus_core.cli.torch_command import check_entry_points

        check_entry_points()  # a plugin may import torch as it is imported
        return _with_traceback(load(cmd_name))

    def unknown(self, name: str) -> str:
        """Return what to say of a command that neither argus_core nor a plugin has."""
        from argus_core.cli.plugin_commands import unknown

        return unknown(name, self.names)


@click.group(
    cls=PluggableCommands,
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
    from argus_core.registry.component import BUILTIN  # what reads metadata takes a while to import
    from argus_core.registry.distributions import version_of

    echo(f"{BUILTIN} {version_of(BUILTIN)}")
    ctx.exit()


def _sentence(error: Exception) -> str:
    """Return what is told of an exception without its traceback, or ``""`` where that says too little.

    A run notes on the exception of a network, a loss or a dataset where it was raised, and on every exception
    that an earlier run is back.
    """
    notes = "; ".join(getattr(error, "__notes__", ()))
    if isinstance(error, ArgusError):
        return f"{error}; {notes}" if notes else str(error)
    if not notes:
        is_full = isinstance(error, MemoryError)
        return "there is no memory left for it; allow the process more, or give it less" if is_full else ""
    lines = str(error).splitlines() or [""]
    # A worker of a DataLoader sends its whole traceback; the exception itself is the last line.
    message = (
        lines[-1] if "Original Traceback" in str(error) else f"{type(error).__name__}: {' '.join(lines)}"
    )
    return f"{message} ({notes}); --traceback shows the lines of code"


def _with_traceback(command: click.Command) -> click.Command:
    if all(parameter.name != "traceback" for parameter in command.params):
        command.params.append(_traceback_option())
    return command


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
