"""``argus plugins doctor``: find faults of plugins, or packages that a checkpoint lacks, with their fixes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import click

from argus_core.cli.examples import examples
from argus_core.cli.options import AS_JSON
from argus_core.cli.output import counted, echo, echo_json, echo_status
from argus_core.cli.table import print_table
from argus_core.doctor.fault import Fault
from argus_core.errors import near
from argus_core.registry.component import Component
from argus_core.registry.discovery import read_index
from argus_core.registry.metadata import all_metadata, normalised

__all__ = ["command"]

_SHOWN = 3
_DEFAULT = click.core.ParameterSource.DEFAULT


@click.command(
    "doctor",
    epilog=examples(
        "argus plugins doctor",
        "argus plugins doctor --provider medseg --timeout 10",
        "argus plugins doctor runs/digits/checkpoints/best.safetensors",
    ),
)
@click.argument("checkpoint", required=False, type=click.Path(path_type=Path))
@click.option("--provider", "providers", multiple=True, metavar="NAME",
              help="Check only the package NAME; repeatable.")  # fmt: skip
@click.option(
    "--timeout",
    type=click.IntRange(1, 86400),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="Allow each component this time to import.",
)
@AS_JSON
@click.pass_context
def command(
    ctx: click.Context, checkpoint: Path | None, providers: tuple[str, ...], timeout: int, as_json: bool
) -> None:
    """Find faults of the plugins, and print how to fix them.

    The command imports every component, in other processes, so it runs the plugins' code. With CHECKPOINT it
    imports nothing: it lists the components that the file needs, and which of them are missing or come from
    another version now. The exit status is 1 if it finds a fault, otherwise 0.
    """
    if checkpoint is not None and (providers or ctx.get_parameter_source("timeout") is not _DEFAULT):
        ctx.fail("--provider and --timeout are for plugins, not for a checkpoint")
    if checkpoint is not None:
        is_well = _examine_checkpoint(checkpoint, as_json)
    else:
        is_well = _examine(_known(ctx, providers), timeout, as_json)
    if not is_well:
        ctx.exit(1)


def _known(ctx: click.Context, providers: tuple[str, ...]) -> set[str]:
    chosen = set(map(normalised, providers))
    installed = {metadata.key for metadata in all_metadata()} if chosen else set()
    for provider in chosen:
        if provider not in installed:
            plugins = {component.provider for component in read_index().components}
            hint = near(provider, filter(None, plugins))
            ctx.fail(f"the package {provider!r} is not installed{hint or ' (see: argus plugins list)'}")
    return chosen


def _examine(providers: set[str], timeout: float, as_json: bool) -> bool:
    # Lazy: --help does not need subprocess and threads.
    from argus_core.doctor.installation import Report, examine

    report: Report = examine(providers, timeout, on_loaded=_show_progress)
    echo_status()
    if as_json:
        record = {**report._asdict(), "faults": [fault._asdict() for fault in report.faults]}
        echo_json(record)
        return not report.faults
    for origins, faults in groupby(report.faults, key=lambda fault: fault.providers):
        echo(" and ".join(origins) or "this project")
        for (problem, fix), alike in _alike(faults).items():
            echo(f"  {_listed(alike)}: {problem}", f"    fix: {fix}")
    for note in report.notes:
        echo(f"note: {note}")
    loaded = f"{counted(report.components, 'component')} of {counted(report.providers, 'provider')} loaded"
    echo(f"{counted(len(report.faults), 'fault') if report.faults else 'no faults'}; {loaded}")
    return not report.faults


def _alike(faults: Iterable[Fault]) -> dict[tuple[str, str], list[str]]:
    """Return subjects by problem and fix: one broken package may affect hundreds of components."""
    subjects: dict[tuple[str, str], list[str]] = {}
    for fault in faults:
        subjects.setdefault((fault.problem, fault.fix), []).append(fault.subject)
    return subjects


def _listed(subjects: list[str]) -> str:
    more = f" and {len(subjects) - _SHOWN} more" if len(subjects) > _SHOWN else ""
    return ", ".join(subjects[:_SHOWN]) + more


def _show_progress(component: Component) -> None:
    # Importing the libraries of plugins can take a while.
    echo_status(f"{component.qualified_name!r} was loaded")


def _examine_checkpoint(path: Path, as_json: bool) -> bool:
    from argus_core.doctor.checkpoint import examine_checkpoint

    report = examine_checkpoint(path)
    faults = [need for need in report.needs if need.state != "found"]
    if as_json:
        needs = [need._asdict() for need in report.needs]
        versions = {name: {"saved": saved, "here": here} for name, (saved, here) in report.versions.items()}
        echo_json({"file": str(path), "versions": versions, "needs": needs, "advice": report.advice})
        return not faults
    rows = [(need.kind, need.name, need.saved, need.here, need.state) for need in report.needs]
    rows += [("version", name, *both, "") for name, both in report.versions.items()]
    print_table(("kind", "name", "saved with", "here", "state"), rows)
    for need in faults:
        echo("", f"{need.kind} {need.name!r} {need.problem}", f"  fix: {need.fix}")
    if report.advice:
        echo("", report.advice)
    return not faults
