"""``argus new-plugin``: create a complete and working plugin package."""

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
              help="Add a component of this kind; repeatable (default: nn_module).")  # fmt: skip
@click.option("--directory", type=click.Path(path_type=Path), default=Path(),
              help="Create the folder in PATH (default: here).")  # fmt: skip
@click.option("--license", metavar="NAME", default="MIT",
              help="Set the license: MIT (default), BSD-3-Clause, or none.")  # fmt: skip
@AS_JSON
def command(name: str, kinds: tuple[str, ...], directory: Path, license: str, as_json: bool) -> None:
    """Create a plugin package in the new folder NAME.

    The package has one working component of each KIND, entry points, passing tests, a README, and files for
    tox and CI. The command writes the whole folder or nothing, changes no existing file, and creates no git
    repository.
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
            f"the folder is in the repository {made.repository}, whose CI reads only .github at its top; "
            "move tests.yml there"
        )
    echo("next:")
    # Some shells need quotes around the brackets.
    installed = shlex.quote(f"{made.folder}[test]")
    echo(f"  python -m pip install -e {installed}")
    echo(f"  python -m pytest {shlex.quote(str(made.folder))}")
