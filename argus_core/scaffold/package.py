"""Creating a plugin package from templates; the whole package or nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib import resources
from pathlib import Path
from string import Template

from argus_core.errors import ConflictError, SpecError
from argus_core.registry.component import BUILTIN
from argus_core.registry.distributions import version_of
from argus_core.registry.metadata import normalised
from argus_core.scaffold.naming import check_distribution_name, import_name, prefix
from argus_core.scaffold.parts import StartingPart, starting_parts

__all__ = ["LICENSES", "NewPackage", "check_place", "filled", "make_package", "write_files"]

LICENSES = ("MIT", "BSD-3-Clause", "none")


@dataclass(frozen=True)
class NewPackage:
    """The result of `make_package`.

    Attributes:
        folder: the folder of the package.
        files: the relative paths of its files, sorted.
        parts: kind and name of each component.
        repository: the git repository around the folder, or None.
    """

    folder: Path
    files: tuple[Path, ...]
    parts: tuple[tuple[str, str], ...]
    repository: Path | None


def make_package(
    name: str, kinds: Sequence[str] = ("nn_module",), directory: Path = Path(), license: str = "MIT"
) -> NewPackage:
    """Create a package with one working component of each kind, and passing tests.

    Args:
        name: the name of the package and of the new folder.
        kinds: the kinds of the components.
        directory: the parent of the new folder; it must exist.
        license: one of `LICENSES`.

    Raises:
        SpecError: the name is not allowed, or a kind has no template.
        UnknownNameError: a kind is unknown.
        ConflictError: the folder exists already, or cannot be created.
    """
    check_distribution_name(name)
    parts = starting_parts(tuple(kinds))
    if license not in LICENSES:
        raise SpecError(f"license is {license!r}; choose {', '.join(LICENSES)}")
    folder = directory / name
    check_place(directory, folder)
    files = dict(_files(name, parts, license))
    write_files(files, folder)
    names = tuple((part.kind, f"{prefix(name)}_{part.noun}") for part in parts)
    return NewPackage(folder, tuple(sorted(map(Path, files))), names, _repository(directory))


def check_place(directory: Path, folder: Path) -> None:
    """Raise `ConflictError` unless ``folder`` can be created in ``directory``."""
    if not directory.is_dir():
        raise ConflictError(f"the folder {directory} for {folder.name} does not exist; create it first")
    if os.path.lexists(folder):
        raise ConflictError(f"{folder} exists already; give another name, or another --directory")


def _files(name: str, parts: Sequence[StartingPart], license: str) -> Iterator[tuple[str, str]]:
    """Yield path and text of each file."""
    values = _values(name, parts, license)
    package = f"src/{values['package']}"
    yield "pyproject.toml", filled("pyproject.toml", values)
    yield "README.md", filled("README.md", values)
    yield "tox.ini", filled("tox.ini", values)
    yield ".gitignore", filled("gitignore", values)
    yield ".github/workflows/tests.yml", filled("tests.yml", values)
    if license != "none":
        yield "LICENSE", filled(f"LICENSE-{license}", values)
    yield f"{package}/__init__.py", filled("init.py", values)
    yield f"{package}/py.typed", ""
    yield "tests/test_contract.py", filled("test_contract.py", values)
    for part in parts:
        yield f"{package}/{part.module}.py", filled(f"parts/{part.kind}.py", values)
        yield f"tests/test_{part.module}.py", filled(f"parts/test_{part.kind}.py", values)


def _values(name: str, parts: Sequence[StartingPart], license: str) -> dict[str, str]:
    package, names = import_name(name), [f"{prefix(name)}_{part.noun}" for part in parts]
    declared = [
        f'[project.entry-points."argus_core.{part.kind}"]\n{own} = "{package}.{part.module}:{part.factory}"\n'
        for part, own in zip(parts, names, strict=True)
    ]
    rows = [f"| `{part.kind}` | `{own}` | {part.about} |" for part, own in zip(parts, names, strict=True)]
    return {
        "distribution": name,
        "normalised": normalised(name),
        "package": package,
        "argus": ".".join((version_of(BUILTIN) or "0.1").split(".")[:2]),
        "year": str(date.today().year),
        "listed": ", ".join(names),
        "first_kind": parts[0].kind,
        "first_name": names[0],
        "entry_points": "\n".join(declared),
        "table": "\n".join(rows),
        "license_line": 'classifiers = ["Private :: Do Not Upload"]'
        if license == "none"
        else f'license = "{license}"\nlicense-files = ["LICENSE"]',
        "license_note": "" if license == "none" else f"\n{license} licensed.",
    }


def filled(template: str, values: Mapping[str, str]) -> str:
    """Return the text of a template with its values."""
    source = resources.files("argus_core.scaffold") / "templates" / f"{template}.tmpl"
    return Template(source.read_text("utf-8")).substitute(values)


def write_files(files: Mapping[str, str], folder: Path) -> None:
    """Write the files to a temporary folder beside ``folder``, then rename it.

    Raises:
        ConflictError: the folder cannot be created.
    """
    try:
        _write(files, folder)
    except OSError as error:
        raise ConflictError(
            f"{folder} cannot be created: {error.strerror or error}; give another --directory, or free space"
        ) from error


def _write(files: Mapping[str, str], folder: Path) -> None:
    with contextlib.ExitStack() as stack:
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        stack.callback(shutil.rmtree, made, ignore_errors=True)
        for path, text in files.items():
            file = made / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8", newline="\n")
        made.chmod(0o777 & ~_umask())  # a temporary folder is private to its owner
        made.rename(folder)
        stack.pop_all()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _repository(directory: Path) -> Path | None:
    folder = directory.resolve()
    return next((each for each in (folder, *folder.parents) if (each / ".git").exists()), None)
