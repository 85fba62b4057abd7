"""Builds the core and every plugin, installs the wheels together, and trains with the README's first command.

    python tests/release/run.py [--version X.Y.Z]

The distributions are left in `dist/`. All packages have one version: that of the tag, where one is given.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import tomli
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
CORE = "argus-torch"


def main() -> None:
    """Check the versions, build, install and train; leave at the first thing that is wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--version", help="the version that every package must have")
    options = parser.parse_args()
    packages = [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/argus-*/pyproject.toml"))]
    check_versions(packages, options.version)
    build(packages)
    with tempfile.TemporaryDirectory(prefix="argus-release-") as folder:
        try_first_command(Path(folder))


def check_versions(packages: Iterable[Path], wanted: str | None) -> None:
    """Leave unless all have the wanted version, else the core's, and every plugin takes that core."""
    pages = [(package / "pyproject.toml").read_text("utf-8") for package in packages]
    projects = [tomli.loads(page)["project"] for page in pages]
    core = next(project for project in projects if project["name"] == CORE)
    version = wanted or core["version"]
    for project in projects:
        if project["version"] != version:
            sys.exit(f"{project['name']} has version {project['version']}; change it to {version}")
        for requirement in map(Requirement, project["dependencies"]):
            if requirement.name == CORE and not requirement.specifier.contains(version, prereleases=True):
                sys.exit(f"{project['name']} does not take {CORE} {version}: change its {requirement}")


def build(packages: Iterable[Path]) -> None:
    """Make the source distribution of each package, a wheel from it, and check what an index would refuse."""
    shutil.rmtree(DIST, ignore_errors=True)
    for package in packages:
        run(sys.executable, "-m", "build", "--outdir", DIST, package)
    run(sys.executable, "-m", "twine", "check", "--strict", *sorted(DIST.iterdir()))


def try_first_command(folder: Path) -> None:
    """Install all wheels in a new environment in the folder, and run there what the README runs first."""
    run(sys.executable, "-m", "venv", folder / ".venv")
    python = folder / ".venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    wheels = sorted(DIST.glob("*.whl"))
    run(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", *wheels)
    shutil.copytree(ROOT / "examples", folder / "examples")
    first = re.search(r"```sh\n(.+?)\n```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert first is not None, "README.md gives its first command in a block of sh"
    words = [shlex.split(command) for command in first[1].split(" && ")]
    for argus, *arguments in words:
        if argus.endswith("/argus"):
            run(python, "-m", "argus_core", *arguments, cwd=folder)


def run(*command: object, cwd: Path = ROOT) -> None:
    """Run a command, and leave as it does where it fails."""
    words = [str(word) for word in command]
    print("$", shlex.join(words), flush=True)
    if code := subprocess.run(words, cwd=cwd, check=False).returncode:
        sys.exit(code)


if __name__ == "__main__":
    main()
