"""Options of several commands."""

from __future__ import annotations

import click

__all__ = ["AS_JSON", "CHANGES"]

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
CHANGES = click.option("--set", "changes", multiple=True, metavar="KEY=VALUE",
                       help="Change a value of the configuration; repeatable.")  # fmt: skip
CHANGES.__doc__ = "Give a command the option ``--set KEY=VALUE``; its parameter ``changes`` holds them."
