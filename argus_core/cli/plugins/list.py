"""``argus plugins list``: list the plugins and their components."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import click

from argus_core.cli.examples import examples
from argus_core.cli.output import counted, echo, echo_json
from argus_core.cli.table import print_table
from argus_core.doctor.precedence import Candidate, candidates
from argus_core.registry.component import BUILTIN
from argus_core.registry.discovery import switches_without_effect
from argus_core.registry.registry import active

__all__ = ["command"]


@click.command("list", epilog=examples("argus plugins list", "argus plugins list --json"))
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON instead of text, with the built-in components."
)
def command(as_json: bool) -> None:
    """List the plugins and their components.

    A note says why a short name does not select a component. Built-in components are listed only if they have
    a note. The command reads only the metadata of packages, and imports none of them.
    """
    found = candidates()
    index = active().index
    notes = [*switches_without_effect(index), *filter(None, [index.pins.fault])]
    if as_json:
        problems = [problem._asdict() for problem in index.problems]
        record = {"providers": _providers(found), "problems": problems, "notes": notes}
        echo_json(record)
        return
    builtins = [each for each in found if each.component.provider == BUILTIN]
    shown = [each for each in found if each.component.provider != BUILTIN or each.note]
    if shown:
        print_table(("provider", "version", "kind", "name", "state", "note"), list(map(_row, shown)))
    plugins = {each.component.provider for each in found} - {None, BUILTIN}
    echo(
        *([""] if shown else []),
        f"{counted(len(plugins), 'plugin')} with {counted(len(found) - len(builtins), 'component')}, "
        f"and {counted(len(builtins), 'built-in component')}",
    )
    if index.problems:
        echo(f"{counted(len(index.problems), 'declaration')} left out; argus plugins doctor shows why")
    for note in notes:
        echo(f"note: {note}")


def _row(candidate: Candidate) -> tuple[str, ...]:
    component = candidate.component
    origin = (component.provider or "this process", component.version or "")
    return (*origin, component.kind, component.name, component.state, candidate.note)


def _providers(found: list[Candidate]) -> list[dict[str, Any]]:
    grouped = groupby(found, key=lambda each: (each.component.provider, each.component.version))
    return [
        {"provider": provider, "version": version, "components": [_record(each) for each in theirs]}
        for (provider, version), theirs in grouped
    ]


def _record(candidate: Candidate) -> dict[str, Any]:
    component = candidate.component
    return {
        "kind": component.kind,
        "name": component.name,
        "target": component.target,
        "state": component.state,
        "blocked_by": component.blocked_by or None,
        "note": candidate.note or None,
    }
