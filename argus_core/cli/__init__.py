"""The command ``argus``, with one module for each sub-command, imported when it is called.

Importing a sub-command does not import torch; a sub-command that trains or predicts imports it when it runs.
The sub-commands of plugins are components of kind ``command``; installed metadata are read only for those.
"""

from __future__ import annotations

import errno
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
from argus_core.early_interrupt import INTERRUPTED, early_interrupt
from argus_core.errors import ArgusError, near
from argus_core.files.standard_streams import lasting
from argus_core.tensors.single_process import is_first_started

__all__ = ["Commands", "PluggableCommands", "main"]

_COMMANDS = (
    "train", "resume", "test", "list", "show", "explain", "summary", "inspect", "predict", "convert",
    "export", "plugins", "new-plugin", "init",
)  # fmt: skip
_TRACEBACK = "argus_core.traceback"


class Commands(click.Group):
    """A group of sub-commands that prints an `ArgusError` as one line and exits with status 1.

    Args:
        package: the package with the module of each sub-command.
        names: the sub-commands; the module of each has a ``command``.
    """

    def __init__(self, *args: Any, package: str, names: tuple[str, ...], **options: Any) -> None:
        super().__init__(*args, **options)
        self.package = package
        self.names = names

    def main(self, *args: Any, **options: Any) -> Any:
        if sys.excepthook is sys.__excepthook__:
            sys.excepthook = show_exception  # for other errors, and for --traceback
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
        """Return the message for a command that is not in `names`, or ``""`` if a plugin provides it."""
        hint = near(name, self.names) or f"; the commands are {', '.join(self.names)}"
        return f"no command {name!r}{hint}"

    def invoke(self, ctx: click.Context) -> Any:
        write_any_text()
        with plain_warnings():
            try:
                with early_interrupt.running(), usage_errors():
                    return super().invoke(ctx)
            except KeyboardInterrupt:
                if is_first_started():
                    echo("interrupted", err=True)
                ctx.exit(INTERRUPTED)
            except Exception as error:
                if isinstance(error, SystemExit):  # another process of the run has failed, and says why
                    raise
                sentence = _sentence(error)
                wants_traceback = os.environ.get("ARGUS_TRACEBACK", "") not in ("", "0")
                if not sentence or ctx.meta.get(_TRACEBACK) or wants_traceback:
                    raise
                if not getattr(error, "told_by_other", False):  # by a process of the same run
                    echo_sentence(f"error: {sentence}")
                ctx.exit(1)


class PluggableCommands(Commands):
    """A group with the built-in sub-commands and those of plugins."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command; closing its standard output does not change its exit status."""
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
        """Write the commands for the help text; commands of plugins with their packages, not imported."""
        super().format_commands(ctx, formatter)
        from argus_core.cli.plugin_commands import described  # lazy: reads metadata

        rows = described(self.names)
        if rows:
            with formatter.section("Commands of plugins"):
                formatter.write_dl(rows)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.names or cmd_name.startswith("-"):
            return super().get_command(ctx, cmd_name)
        from argus_core.cli.plugin_commands import load
        from argus_core.cli.torch_command import check_entry_points

        check_entry_points()  # importing a plugin may import torch
        return _with_traceback(load(cmd_name))

    def unknown(self, name: str) -> str:
        """Return the message for a command that neither argus_core nor a plugin has."""
        from argus_core.cli.plugin_commands import unknown

        return unknown(name, self.names)


@click.group(
    cls=PluggableCommands,
    package="argus_core.cli",
    names=_COMMANDS,
    epilog=examples(
        "argus list                         List the components to choose from.",
        "argus train examples/digits.toml   Train a model.",
        "argus COMMAND --help               Show the arguments and options of a command.",
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False,
              help="Print the version and exit.",
              callback=lambda ctx, _, asked: _print_version(ctx) if asked else None)  # fmt: skip
def main() -> None:
    """Train, save and load PyTorch models whose components are chosen by name.

    A component is a network, a loss, an optimizer, a metric or any other part of a model or a run. Some are
    built in; plugins, which are packages that you install, provide more.

    The names: pip installs argus-torch, Python imports argus_core, and its command is argus.
    """


def _print_version(ctx: click.Context) -> None:
    from argus_core.registry.component import BUILTIN  # lazy: reads metadata
    from argus_core.registry.distributions import version_of

    echo(f"{BUILTIN} {version_of(BUILTIN)}")
    ctx.exit()


def _sentence(error: Exception) -> str:
    """Return the message for an exception without its traceback, or ``""`` if it needs the traceback.

    A run adds notes to exceptions: where a network, a loss or a dataset raised it, and that the earlier run
    in the directory was restored.
    """
    notes = "; ".join(getattr(error, "__notes__", ()))
    if isinstance(error, ArgusError):
        return f"{error}; {notes}" if notes else str(error)
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"path {str(error.filename)!r} is too long for this system; give a shorter one"
    if not notes:
        is_full = isinstance(error, MemoryError)
        return "the process is out of memory; allow it more, or give it less to do" if is_full else ""
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
        help="Show the traceback of an error (also: ARGUS_TRACEBACK=1).",
    )
