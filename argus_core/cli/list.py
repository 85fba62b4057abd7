"""``argus list``: the components that there are to choose from."""

from __future__ import annotations

import click

from argus_core.cli.examples import examples
from argus_core.cli.options import AS_JSON
from argus_core.cli.output import echo, echo_json
from argus_core.cli.table import print_table
from argus_core.registry.component import KINDS, Component
from argus_core.registry.registry import active, components

__all__ = ["command", "outline"]


@click.command("list", epilog=examples("argus list", "argus list nn_module", "argus list dataset --json"))
@click.argument("kind", required=False)
@AS_JSON
def command(kind: str | None, as_json: bool) -> None:
    """List the components of one KIND, or of all.

    With provider, version and state. Only the packages' metadata are read; nothing of them is imported.
    """
    found = components(kind)
    if as_json:
        echo_json([outline(component) for component in found])
    elif found:
        header = ("kind", "name", "provider", "version", "state")
        print_table(header, [[cell or "" for cell in outline(component).values()] for component in found])
    else:
        echo(f"no components of kind {kind}; install a package that has some")
    if kind is None and not as_json:
        echo("", f"{len(found)} components of {len(KINDS)} kinds; argus show KIND NAME tells more about one")
    if active().index.pins.fault and not as_json:
        echo(f"note: {active().index.pins.fault}")


def outline(component: Component) -> dict[str, str | None]:
    """Return what is told of a component without its import."""
    return {
        "kind": component.kind,
        "name": component.name,
        "provider": component.provider,
        "version": component.version,
        "state": component.state,
    }
