"""``argus plugins why``: show which package a name selects, and by which rule."""

from __future__ import annotations

from typing import Any

import click

from argus_core.cli.examples import examples
from argus_core.cli.options import AS_JSON
from argus_core.cli.output import echo, echo_json
from argus_core.doctor.definition import find_definition
from argus_core.doctor.precedence import Verdict, kinds_of, verdict
from argus_core.registry.component import Component

__all__ = ["command"]

_MOST_TOLD = 100  # losers; searching the source for each takes a while


@click.command(
    "why",
    epilog=examples(
        "argus plugins why cnn", "argus plugins why metric loss", "argus plugins why medseg/unet --json"
    ),
)
@click.argument("names", nargs=-1, required=True, metavar="[KIND] NAME")
@AS_JSON
@click.pass_context
def command(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Show which package NAME selects, and by which rule.

    The command also shows where the component is defined, and why the name does not select another package
    that has it. Without KIND it shows this for each kind that has the NAME. It searches the source of
    packages for definitions, and imports nothing. The exit status is 1 if NAME selects no component.
    """
    if len(names) > 2:
        ctx.fail(f"give a NAME, or a KIND and a NAME, not {len(names)} arguments")
    *kind, name = names
    verdicts = [verdict(each, name) for each in (kind or kinds_of(name))]
    if as_json:
        echo_json(list(map(_record, verdicts)))
    else:
        for index, each in enumerate(verdicts):
            echo(*([""] if index else []), *_lines(each))
    if not all(each.winner for each in verdicts):
        ctx.exit(1)


def _lines(found: Verdict) -> list[str]:
    lines = [f"{found.kind} {found.name}"]
    if found.winner:
        lines += [f"  winner: {_line(found.winner)}", f"  reason: {found.reason}"]
    else:
        lines.append(f"  the name selects no component: {found.reason}")
    for loser in found.losers[:_MOST_TOLD]:
        lines += [f"  loser: {_line(loser.component)}", f"    reason: {loser.note}"]
    if len(found.losers) > _MOST_TOLD:
        lines.append(f"  {len(found.losers) - _MOST_TOLD:,} more losers (see: argus plugins list)")
    return lines


def _line(component: Component) -> str:
    place = find_definition(component.target)
    defined = f"defined in {place}" if place else "its definition cannot be found without an import"
    return f"{component.target}, declared by {component.origin}, {defined}"


def _record(found: Verdict) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "name": found.name,
        "winner": _candidate(found.winner, found.reason) if found.winner else None,
        "error": None if found.winner else found.reason,
        "losers": [_candidate(*loser) for loser in found.losers[:_MOST_TOLD]],
    }


def _candidate(component: Component, reason: str) -> dict[str, Any]:
    place = find_definition(component.target)
    return {
        "provider": component.provider,
        "version": component.version,
        "target": component.target,
        "state": component.state,
        "file": str(place.path) if place else None,
        "line": place.line if place else None,
        "reason": reason,
    }
