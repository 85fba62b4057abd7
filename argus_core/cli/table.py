"""A table for a person: drawn on a terminal, aligned with spaces elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

__all__ = ["print_table"]


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells below a header."""
    rows = [tuple(map(_printable, row)) for row in rows]
    if _is_terminal():
        _print_on_terminal(header, rows)
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    layout = "  ".join(f"{{:<{width}}}" for width in widths)
    # Written at once: each call of echo flushes, and there may be thousands of rows.
    click.echo("\n".join(layout.format(*row).rstrip() for row in (header, *rows)))


def _printable(cell: str) -> str:
    """Return a cell without what would move a terminal's cursor: it may come from a file of a stranger's."""
    return cell if cell.isprintable() else repr(cell)


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _print_on_terminal(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*header)
    for row in rows:
        table.add_row(*map(Text, row))  # as text: nothing in a name is markup
    Console().print(table)
