"""The plugins of ``tests/bad_plugins``, installed as pip does, which would refuse most of them.

Each folder is a package as its author keeps it: a pyproject.toml and modules. What is wrong with it stands in
``[[tool.expected]]``, as the doctor tells it; ``*`` stands for anything.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["FOLDER", "install", "is_like", "plugins"]

FOLDER = Path(__file__).parents[1] / "bad_plugins"


def plugins() -> dict[str, dict[str, Any]]:
    """Return the pyproject.toml of each plugin by the name of its folder."""
    files = sorted(FOLDER.glob("*/pyproject.toml"))
    return {file.parent.name: tomllib.loads(file.read_text("utf-8")) for file in files}


def install(name: str, site: Path) -> None:
    """Put one plugin into a folder of installed packages."""
    pyproject = plugins()[name]
    for module in (FOLDER / name).glob("*.py"):
        shutil.copy(module, site)
    version = pyproject["project"].get("version")
    for each in filter(
        None, [version or "0", pyproject.get("tool", {}).get("bad", {}).get("another_version")]
    ):
        info = site / f"{name.replace('-', '_')}-{each}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("\n".join(_metadata(pyproject["project"], version and each)), "utf-8")
        (info / "entry_points.txt").write_text("\n".join(_ini(pyproject["project"])), "utf-8")


def is_like(text: str, pattern: str) -> bool:
    """Return whether a text is as it is expected; ``*`` in the pattern stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


def _metadata(project: dict[str, Any], version: str | None) -> Iterator[str]:
    yield "Metadata-Version: 2.1"
    yield f"Name: {project['name']}"
    if version:
        yield f"Version: {version}"
    yield ""


def _ini(project: dict[str, Any]) -> Iterator[str]:
    for group, entries in project["entry-points"].items():
        yield f"[{group}]"
        yield from (f"{name} = {target}" for name, target in entries.items())
