"""Each module imports only from modules above it, so the package can be read from the top down."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import argus_core

pytestmark = pytest.mark.torchfree

PACKAGE = Path(argus_core.__file__).parent

READING_ORDER = (
    "text",
    "errors",
    "working_folder",
    "confinement",
    "standard_streams",
    "ordinary_files",
    "toml",
    "mismatch",
    "stored",
    "torch_versions",
    "metadata_archive",
    "metadata",
    "distributions",
    "components",
    "file_params",
    "pins",
    "discovery",
    "diagnosis",
    "registry",
    "precedence",
    "definition",
    "records",
    "spec",
    "params",
    "encoding",
    "manifest",
    "storage",
    "dimensions",
    "samples",
    "batch",
    "arguments",
    "build",
    "device",
    "ranks",
    "single_process",
    "rng",
    "workers",
    "order",
    "interruption",
    "reduction",
    "log",
    "hooks",
    "weights",
    "modes",
    "steps",
    "reading",
    "parts",
    "events",
    "exception_note",
    "progress",
    "computation",
    "engine",
    "metric_state",
    "metric",
    "metrics",
    "layout",
    "callbacks",
    "scheduler_state",
    "lr_scheduler",
    "forms",
    "rehearsal",
    "state",
    "checkpoint",
    "sections",
    "saved",
    "drift",
    "resume",
    "training",
    "assembly",
    "finiteness",
    "model",
    "archive",
    "legacy",
    "bindings",
    "memory",
    "initial_values",
    "restoration",
    "loading",
    "conversion",
    "config",
    "arrays",
    "data_files",
    "data",
    "examination",
    "testing",
    "prediction",
    "run_folder",
    "run_lock",
    "made_files",
    "replaced_run",
    "checkpoints_link",
    "run_directory",
    "outputs",
    "run_callbacks",
    "participants",
    "run",
    "scaffold",
    "cli",
)


def _entry(path: Path) -> str:
    """Return the entry of the reading order that a file belongs to; a sub-package is one entry."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _files() -> list[Path]:
    # __init__ and __main__ open the package from outside: the one exports it lazily, the other starts it.
    outside = {PACKAGE / "__init__.py", PACKAGE / "__main__.py"}
    return sorted(path for path in PACKAGE.rglob("*.py") if path not in outside)


def _is_for_annotations(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def _run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, past what only annotations need: those names may point down the order."""
    for child in ast.iter_child_nodes(node):
        if not _is_for_annotations(child):
            yield child
            yield from _run_time_nodes(child)


def _imported_entries(source: str) -> set[str]:
    """Return the entries that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in _run_time_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"write the import of line {node.lineno} absolutely"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name.split(".")[1] for name in names if name.startswith("argus_core.")}


def test_every_module_has_its_place_in_the_order() -> None:
    assert {_entry(path) for path in _files()} == set(READING_ORDER)


@pytest.mark.parametrize("path", _files(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_module_imports_only_from_modules_above_it(path: Path) -> None:
    entry = _entry(path)
    assert entry in READING_ORDER
    above = READING_ORDER[: READING_ORDER.index(entry)]
    assert _imported_entries(path.read_text("utf-8")) <= {*above, entry}


@pytest.mark.parametrize(
    ("source", "entries"),
    [
        ("import argus_core.run", {"run"}),
        ("from argus_core import run", {"run"}),
        ("from argus_core.steps.amp import AMP", {"steps"}),
        ("def f():\n    from argus_core.run import Run", {"run"}),
        ("if TYPE_CHECKING:\n    from argus_core.run import Run", set()),
        ("import torch", set()),
    ],
)
def test_imports_are_found_wherever_they_count(source: str, entries: set[str]) -> None:
    assert _imported_entries(source) == entries
