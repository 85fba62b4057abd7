"""``argus init``: create a project with parts of its own."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from argus_core.cli.examples import examples
from argus_core.cli.options import AS_JSON
from argus_core.cli.output import echo, echo_json

__all__ = ["command"]


@click.command("init", epilog=examples("argus init flowers", "argus init flowers --directory projects"))
@click.argument("name")
@click.option("--directory", type=click.Path(path_type=Path), default=Path(),
              help="Create the folder in PATH (default: here).")  # fmt: skip
@AS_JSON
def command(name: str, directory: Path, as_json: bool) -> None:
    """Create a project with parts of your own in the new folder NAME.

    The project has a network, a dataset and a loss in parts.py, a configuration that trains them, a test and
    a README. The command writes the whole folder or nothing, and changes no existing file.
    """
    from argus_core.scaffold.project import make_project  # lazy: --help does not need it

    folder, files = make_project(name, directory)
    if as_json:
        echo_json({"folder": str(folder), "files": [path.as_posix() for path in files]})
        return
    echo(f"{folder}: {len(files)} files")
    echo("next:")
    echo(f"  cd {shlex.quote(str(folder))}")
    echo("  argus train train.toml")
