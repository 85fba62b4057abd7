"""Creating a project with parts of its own from templates; the whole project or nothing."""

from __future__ import annotations

from pathlib import Path

from argus_core.scaffold.naming import check_project_name
from argus_core.scaffold.package import check_place, filled, write_files

__all__ = ["make_project"]

_FILES = {
    "pyproject.toml": "pyproject.toml",
    "parts.py": "parts.py",
    "train.toml": "train.toml",
    "tests/test_train.py": "test_train.py",
    "README.md": "README.md",
    ".gitignore": "gitignore",
}


def make_project(name: str, directory: Path = Path()) -> tuple[Path, list[Path]]:
    """Create a folder with a network, a dataset and a loss that train, and return it and its files.

    Args:
        name: of the new folder.
        directory: the parent of the new folder; it must exist.

    Raises:
        SpecError: the name is not allowed.
        ConflictError: the folder exists already, or cannot be created.
    """
    check_project_name(name)
    folder = directory / name
    check_place(directory, folder)
    files = {path: filled(f"project/{template}", {"name": name}) for path, template in _FILES.items()}
    write_files(files, folder)
    return folder, sorted(map(Path, files))
