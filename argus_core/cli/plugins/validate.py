"""``argus plugins validate``: check the components of an installed package."""

from __future__ import annotations

from typing import Any

import click

from argus_core.cli.examples import examples
from argus_core.cli.options import AS_JSON
from argus_core.cli.output import echo, echo_json
from argus_core.cli.torch_command import TorchCommand

__all__ = ["command"]


@click.command(
    "validate",
    cls=TorchCommand,
    epilog=examples(
        "argus plugins validate argus-example",
        "argus plugins validate argus-example --kind loss --json",
        "argus plugins validate argus-example --time-limit 60",
    ),
)
@click.argument("package")
@click.option(
    "--kind", "kinds", multiple=True, metavar="KIND", help="Check only components of this kind; repeatable."
)
@click.option("--time-limit", type=click.FloatRange(min=0, min_open=True), default=300.0, metavar="SECONDS",
              help="Allow each component this time (default: 300).")  # fmt: skip
@AS_JSON
@click.pass_context
def command(
    ctx: click.Context, package: str, kinds: tuple[str, ...], time_limit: float, as_json: bool
) -> None:
    """Check the components of PACKAGE, an installed package.

    Each component is looked up by name, built, used, copied, saved and loaded, as its kind requires. This
    happens in other processes, so a component that hangs or crashes is reported too. The exit status is 1
    if a check fails, otherwise 0.
    """
    from argus_core.testing.validation import PartReport, validate

    provider, version, problems, reports = validate(package, kinds, time_limit)
    if as_json:
        parts: list[dict[str, Any]] = [report.record() for report in reports]
        record = {"provider": provider, "version": version, "problems": problems, "parts": parts}
        echo_json(record)
        ctx.exit(int(bool(problems) or not all(part["holds"] for part in parts)))
    failed = bool(problems)
    for problem in problems:
        echo(f"declaration: {problem}")
    done: list[PartReport] = []
    for report in reports:  # each is printed as soon as it is complete
        _print(report)
        done.append(report)
        failed = failed or not report.holds
    checked = [report for report in done if report.is_checked]
    holding = sum(report.holds for report in checked)
    echo("", f"{provider} {version}: {holding} of {len(checked)} components pass all checks of their kind")
    ctx.exit(int(failed))


def _print(report: Any) -> None:
    failures = [result for result in report.results if result.state == "failed"]
    made = [result for result in report.results if result.state != "not run"]
    if not failures:
        told = f"{len(made)} checks pass" if made else report.results[0].why
        echo(f"{report.kind} {report.name}: {told}")
        return
    left_out = len(report.results) - len(made)
    rest = f", {left_out} not run" if left_out else ""
    echo(f"{report.kind} {report.name}: {len(failures)} of {len(made)} checks fail{rest}")
    for failure in failures:
        echo(f"  it must {failure.check}: {failure.why}")
