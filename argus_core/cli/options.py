"""Options that several commands have."""

from __future__ import annotations

import click

__all__ = ["AS_JSON", "CHANGES"]

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
CHANGES = click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change the configuration; repeatable."
)
