"""A table for a person: drawn on a terminal, aligned with spaces elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import chain

from argus_core.cli.output import echo
from argus_core.text import one_line

__all__ = ["print_table"]

_WIDEST = 100  # a name may have as many characters as its file, and there may be as many rows


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells below a header."""
    if not all(map(str.isprintable, chain(header, *rows))):
        header, *rows = [tuple(map(one_line, row)) for row in (header, *rows)]
    if _is_terminal():
        _print_on_terminal(header, rows)
        return
    widths = [min(_WIDEST, max(map(len, column))) for column in zip(header, *rows, strict=True)]
    layout = "  ".join(f"{{:<{width}}}" for width in widths)
    echo(*(layout.format(*row).rstrip() for row in (header, *rows)))


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _print_on_terminal(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in header:
        table.add_column(Text(name))  # as text: nothing in a name is markup
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
