"""Each package imports only from packages above it, so the project can be read from the top down."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import argus_core

pytestmark = pytest.mark.torchfree

PACKAGE = Path(argus_core.__file__).parent

READING_ORDER = (
    "early_interrupt",
    "lazy",
    "text",
    "errors",
    "hooks",
    "files",
    "registry",
    "storage",
    "tensors",
    "abstract_model",
    "scaffold",
    "steps",
    "callbacks",
    "metrics",
    "config",
    "data",
    "checkpoint",
    "parallel",
    "training",
    "prediction",
    "doctor",
    "model",
    "runs",
    "testing",
    "cli",
    "authors",
)


def _entry(path: Path) -> str:
    """Return the entry of the reading order that a file belongs to: its package, or itself."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _files() -> list[Path]:
    # __init__ and __main__ open the package from outside: the one exports it lazily, the other starts it.
    outside = {PACKAGE / "__init__.py", PACKAGE / "__main__.py"}
    return sorted(path for path in PACKAGE.rglob("*.py") if path not in outside)


def _module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module_of(path): path for path in _files()}


def _source(path: Path) -> str:
    """Return a module's source with that of its stub, which lists what it imports on first use."""
    stub = path.with_suffix(".pyi")
    return path.read_text("utf-8") + (stub.read_text("utf-8") if stub.exists() else "")


def _imported_names(source: str) -> Iterator[str]:
    """Yield what a module imports, anywhere in it, lazily or for annotations alone."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"write the import of line {node.lineno} absolutely"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _imported_entries(source: str) -> set[str]:
    return {name.split(".")[1] for name in _imported_names(source) if name.startswith("argus_core.")}


def _imported_modules(module: str) -> set[str]:
    """Return the modules of this package that one of them names in its imports."""
    names = _imported_names(_source(MODULES[module]))
    found = {name if name in MODULES else name.rpartition(".")[0] for name in names}
    return (found & MODULES.keys()) - {module}


def test_every_module_has_its_place_in_the_order() -> None:
    assert {_entry(path) for path in _files()} == set(READING_ORDER)


@pytest.mark.parametrize("path", _files(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_module_imports_only_from_packages_above_its_own(path: Path) -> None:
    entry = _entry(path)
    above = READING_ORDER[: READING_ORDER.index(entry)]
    assert _imported_entries(_source(path)) <= {*above, entry}


def test_no_modules_import_each_other_in_a_circle() -> None:
    left = {module: _imported_modules(module) for module in MODULES}
    while left:
        free = [module for module, imported in left.items() if not imported & left.keys()]
        assert free, f"each of these waits for another: {', '.join(sorted(left))}"
        for module in free:
            del left[module]


@pytest.mark.parametrize(
    ("source", "entries"),
    [
        ("import argus_core.runs.run", {"runs"}),
        ("from argus_core import runs", {"runs"}),
        ("from argus_core.steps.amp import AMP", {"steps"}),
        ("def f():\n    from argus_core.runs.run import Run", {"runs"}),
        ("if TYPE_CHECKING:\n    from argus_core.runs.run import Run", {"runs"}),
        ("import torch", set()),
    ],
)
def test_imports_are_found_wherever_they_stand(source: str, entries: set[str]) -> None:
    assert _imported_entries(source) == entries
