"""``argus list``: list the components to choose from."""

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
    """List the components of one KIND, or of all kinds.

    A kind is a sort of component, such as nn_module, loss or dataset. The command reads only the metadata of
    packages, and imports none of them. The columns are:

    \b
    provider    the installed package that declares the component, as pip names it
    version     the version of that package
    defined in  the Python package with the code; torch for the classes of torch
    state       declared (not imported yet), loaded, broken or blocked
    """  # noqa: D301 (click reads the backspace)
    found = components(kind)
    if as_json:
        echo_json([outline(component) for component in found])
    elif found:
        print_table(("kind", "name", "provider", "version", "defined in", "state"), list(map(_row, found)))
    else:
        echo(f"no components of kind {kind}; install a plugin that provides some")
    if kind is None and not as_json:
        echo("", f"{len(found)} components of {len(KINDS)} kinds; argus show KIND NAME describes one")
    if active().index.pins.fault and not as_json:
        echo(f"note: {active().index.pins.fault}")


def _row(component: Component) -> tuple[str, ...]:
    package = component.target.partition(":")[0].partition(".")[0]
    origin = component.provider or "", component.version or "", package
    return (component.kind, component.name, *origin, component.state)


def outline(component: Component) -> dict[str, str | None]:
    """Return the description of a component that needs no import."""
    return {
        "kind": component.kind,
        "name": component.name,
        "provider": component.provider,
        "version": component.version,
        "target": component.target,
        "state": component.state,
    }
