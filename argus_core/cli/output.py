"""Output of the command: escapes control characters in everything that it writes.

Names, versions, params, paths and messages may come from an untrusted file or package. Without escapes they
could move the cursor, change colours or imitate lines of this command.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import click

from argus_core.errors import ArgusWarning
from argus_core.text import escape_json, one_line, printable, strict_json, wrapped

__all__ = [
    "counted",
    "echo",
    "echo_json",
    "echo_sentence",
    "echo_status",
    "echo_text",
    "is_terminal",
    "plain_warnings",
    "show_exception",
    "usage_errors",
    "write_any_text",
]

_STATUS_WIDTH = 79


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 plugin``, ``2 plugins``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def echo(*lines: str, err: bool = False) -> None:
    """Write lines; a newline within a line is escaped."""
    # One call for all lines, since each call of click's echo flushes.
    click.echo("\n".join(map(one_line, lines)), err=err)


def echo_sentence(text: str) -> None:
    """Write a sentence to standard error in one line; on a terminal it is wrapped to the terminal's width."""
    if is_terminal(err=True):
        import shutil  # lazy: slow to import

        echo_text(wrapped(text, shutil.get_terminal_size().columns), err=True)
    else:
        echo(text, err=True)


def is_terminal(err: bool = False) -> bool:
    """Return whether standard output, or standard error, is a terminal."""
    return (sys.stderr if err else sys.stdout).isatty()


def echo_text(text: str, err: bool = False) -> None:
    """Write text of several lines, such as a drawing or a docstring."""
    click.echo(printable(text.rstrip("\n")), err=err)


def echo_json(record: object) -> None:
    """Write JSON in ASCII; numbers that are not finite become strings."""
    import json  # lazy, to keep start-up fast

    click.echo(escape_json(json.dumps(strict_json(record), indent=2, allow_nan=False)))


def echo_status(text: str = "") -> None:
    """Overwrite the last line on a terminal; write nothing elsewhere."""
    if is_terminal(err=True):
        click.echo(f"\r\x1b[K{one_line(text)[:_STATUS_WIDTH]}", nl=False, err=True)


def write_any_text() -> None:
    """Let standard output escape characters that it cannot encode, as standard error does.

    Texts of plugins and names of files may have characters that the terminal does not support.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print argus_core's warnings in one line, without their place in the code; escape all warnings."""
    with warnings.catch_warnings():
        show, form = warnings.showwarning, warnings.formatwarning

        def show_plainly(message: Any, category: type[Warning], *place: Any, **options: Any) -> None:
            if issubclass(category, ArgusWarning):
                echo_sentence(f"warning: {message}")
            else:
                show(message, category, *place, **options)

        def form_plainly(*args: Any, **options: Any) -> str:
            return printable(form(*args, **options))

        warnings.showwarning = show_plainly
        warnings.formatwarning = form_plainly  # catch_warnings does not restore it
        try:
            yield
        finally:
            warnings.formatwarning = form


@contextmanager
def usage_errors() -> Iterator[None]:
    """Print click's errors, which repeat the user's input, escaped; exit with their status."""
    try:
        yield
    except click.ClickException as error:
        shown = io.StringIO()  # click writes no colours here
        error.show(shown)
        message = f"Error: {error.format_message()}"
        echo_text(shown.getvalue().replace(click.unstyle(message), one_line(message)), err=True)
        raise click.exceptions.Exit(error.exit_code) from error


def show_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an uncaught exception with its traceback, as ``sys.excepthook`` does."""
    import traceback  # lazy, to keep start-up fast

    echo_text("".join(traceback.format_exception(kind, error, trace)), err=True)
