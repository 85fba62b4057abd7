"""Where text leaves for the terminal: all that the command writes goes through here, and is made printable.

Names, versions, params, paths and messages may come from a file or package of a stranger's; none of them
moves the cursor, changes colours or passes for a line of ours.
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
    "echo",
    "echo_json",
    "echo_sentence",
    "echo_status",
    "echo_text",
    "plain_warnings",
    "show_exception",
    "usage_errors",
    "write_any_text",
]

_STATUS_WIDTH = 79


def echo(*lines: str, err: bool = False) -> None:
    """Write lines; a newline within one of them is shown as an escape."""
    # Written at once: each call of click's echo flushes, and there may be thousands of lines.
    click.echo("\n".join(map(one_line, lines)), err=err)


def echo_sentence(text: str, err: bool = True) -> None:
    """Write a sentence in one line; on a terminal it is broken between words, as wide as the terminal is."""
    if (sys.stderr if err else sys.stdout).isatty():
        import shutil  # for a terminal alone: its archives take long to import

        echo_text(wrapped(text, shutil.get_terminal_size().columns), err)
    else:
        echo(text, err=err)


def echo_text(text: str, err: bool = False) -> None:
    """Write text that has several lines, such as a drawing or a docstring."""
    click.echo(printable(text.rstrip("\n")), err=err)


def echo_json(record: object) -> None:
    """Write JSON in ASCII; numbers that are not finite are strings."""
    import json  # not at start-up, where milliseconds count

    click.echo(escape_json(json.dumps(strict_json(record), indent=2, allow_nan=False)))


def echo_status(text: str = "") -> None:
    """Write a line over the one before on a terminal, and nothing elsewhere."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{one_line(text)[:_STATUS_WIDTH]}", nl=False, err=True)


def write_any_text() -> None:
    """Let standard output write with backslashes what it cannot encode, as standard error does.

    What plugins say and what files are called may have characters that the terminal has not.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show argus_core's own warnings in one line, without the place in the code; all of them printable."""
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
        warnings.formatwarning = form_plainly  # which catch_warnings does not put back
        try:
            yield
        finally:
            warnings.formatwarning = form


@contextmanager
def usage_errors() -> Iterator[None]:
    """Show click's own errors, which repeat what was typed, and end with the status that they have."""
    try:
        yield
    except click.ClickException as error:
        shown = io.StringIO()  # where click leaves out sequences that change colours
        error.show(shown)
        message = f"Error: {error.format_message()}"
        echo_text(shown.getvalue().replace(click.unstyle(message), one_line(message)), err=True)
        raise click.exceptions.Exit(error.exit_code) from error


def show_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show an exception that nothing caught, with its traceback, as ``sys.excepthook`` does."""
    import traceback  # not at start-up, where milliseconds count

    echo_text("".join(traceback.format_exception(kind, error, trace)), err=True)
