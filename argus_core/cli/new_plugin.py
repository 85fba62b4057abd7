"""``argus new-plugin``: a new package with parts, complete and working."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from argus_core.cli.examples import examples
from argus_core.cli.options import AS_JSON
from argus_core.cli.output import echo, echo_json

__all__ = ["command"]


@click.command(
    "new-plugin",
    epilog=examples(
        "argus new-plugin medseg",
        "argus new-plugin argus-medseg --kind nn_module --kind loss --kind metric",
        "argus new-plugin argus-medseg --directory plugins --license none",
    ),
)
@click.argument("name")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", default=("nn_module",),
              help="What it provides a part of; can be repeated (default: nn_module).")  # fmt: skip
@click.option("--directory", type=click.Path(path_type=Path), default=Path(),
              help="Where to make its folder (default: here).")  # fmt: skip
@click.option("--license", metavar="NAME", default="MIT",
              help="MIT (default), BSD-3-Clause, or none for a package that stays private.")  # fmt: skip
@AS_JSON
def command(name: str, kinds: tuple[str, ...], directory: Path, license: str, as_json: bool) -> None:
    """Make the folder NAME with a package of that name.

    It has one working part of each KIND, entry points, tests that pass, README, tox and CI files. It is
    written whole or not at all; nothing that is there is changed, and no repository is made.
    """
    from argus_core.scaffold import make_package

    made = make_package(name, kinds, directory, license)
    if as_json:
        record = {
            "folder": str(made.folder),
            "files": [path.as_posix() for path in made.files],
            "parts": [{"kind": kind, "name": own} for kind, own in made.parts],
            "repository": None if made.repository is None else str(made.repository),
        }
        echo_json(record)
        return
    echo(f"{made.folder}: {len(made.files)} files")
    for kind, own in made.parts:
        echo(f"  {kind} {own}")
    if made.repository is not None:
        echo(
            f"in the repository {made.repository}: its CI reads workflows from .github at its top alone, so "
            "move tests.yml there"
        )
    echo("next:")
    # The brackets need the quotes in some shells, whatever the folder is called.
    installed = shlex.quote(f"{made.folder}[test]")
    echo(f"  python -m pip install -e {installed}")
    echo(f"  python -m pytest {shlex.quote(str(made.folder))}")
