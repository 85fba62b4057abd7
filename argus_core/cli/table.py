"""Tables: drawn with lines on a terminal, aligned with spaces elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from argus_core.cli.output import echo, is_terminal
from argus_core.text import one_line

__all__ = ["print_table"]

_WIDEST = 100  # an untrusted file may have very long names


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with a header."""
    if not all(map(str.isprintable, chain(header, *rows))):
        header, *rows = [tuple(map(one_line, row)) for row in (header, *rows)]
    if is_terminal():
        _print_on_terminal(header, rows)
        return
    widths = [min(_WIDEST, max(map(len, column))) for column in zip(header, *rows, strict=True)]
    layout = "  ".join(f"{{:<{width}}}" for width in widths)
    echo(*(layout.format(*row).rstrip() for row in (header, *rows)))


def _print_on_terminal(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in header:
        table.add_column(Text(name))  # Text: a name may look like markup
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
