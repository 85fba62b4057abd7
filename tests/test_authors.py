"""Plugins keep to a documented surface: `argus_core`, `argus_core.testing` and `argus_core.authors`."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_import_order import MODULES

import argus_core
from argus_core import authors, testing

ROOT = Path(__file__).parent.parent
PLUGINS = sorted((ROOT / "plugins").glob("argus-*"))
TEMPLATES = sorted((ROOT / "argus_core/scaffold/templates").rglob("*.py.tmpl"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

SURFACE: dict[str, list[str]] = {
    "argus_core": [*argus_core.__all__, "authors", "testing"],
    "argus_core.authors": authors.__all__,
    "argus_core.testing": testing.__all__,
}
TORCH_FREE = """
    near hookspec FileParam READS WRITES FUNCTION OBJECT KIND_OF_PART Part Spec parse_spec parse_specs
    build_component build_many call_factory check_params handed_over components Rule COUNT check_state
    checked_path place_to_write begin_file make_folder making_files writing opener confined open_ordinary
    replacement Cadence Due parse_cadence SECTIONS Config read_config read_document complete_config
    RunDirectory TorchCommand BuildingCommand echo CHANGES echo_json print_table examples main Checkpoint
    EarlyStopping
    LoggingToCSV EpochReport EpochRecord plain_metrics update_loss Monitor check_monitor monitored_value
    LineFormatter
""".split()


def outside(source: str) -> list[str]:
    """Return what code takes from this package beside the surface, wherever in it and however."""
    tree = ast.parse(source)
    modules = {"argus_core": "argus_core"}  # what names of modules stand for
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {each.asname or each.name: each.name for each in node.names}
            modules |= {short: name for short, name in names.items() if name in SURFACE}
            found += [name for name in names.values() if _is_ours(name) and name not in SURFACE]
        elif isinstance(node, ast.ImportFrom) and _is_ours(node.module or ""):
            known = SURFACE.get(str(node.module), [])
            found += [f"{node.module}.{each.name}" for each in node.names if each.name not in known]
            modules |= {
                each.asname or each.name: f"{node.module}.{each.name}"
                for each in node.names
                if f"{node.module}.{each.name}" in SURFACE
            }
        elif isinstance(node, ast.Constant) and node.value in MODULES:
            found.append(str(node.value))
    return [*found, *_attributes_outside(tree, modules)]


def _attributes_outside(tree: ast.AST, modules: dict[str, str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in modules:
            module = modules[ast.unparse(node.value)]
            if node.attr not in SURFACE[module] and not node.attr.startswith("__"):
                yield f"{module}.{node.attr}"


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == "argus_core"


@pytest.mark.torchfree
@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)
def test_plugin_takes_from_the_surface_alone(plugin: Path) -> None:
    files = sorted((plugin / "src").rglob("*.py"))
    assert files
    taken = {str(file.relative_to(plugin)): outside(file.read_text("utf-8")) for file in files}
    assert {file: names for file, names in taken.items() if names} == {}


@pytest.mark.torchfree
@pytest.mark.parametrize("path", [*TEMPLATES, *PAGES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_code_that_is_shown_to_authors_imports_from_the_surface_alone(path: Path) -> None:
    found = re.findall(r"^\s*(?:from|import) (argus_core[\w.]*)", path.read_text("utf-8"), re.MULTILINE)
    assert set(found) <= set(SURFACE)


@pytest.mark.torchfree
@pytest.mark.parametrize(
    ("source", "taken"),
    [
        ("import argus_core\nargus_core.Model", []),
        ("from argus_core.authors import near\nfrom argus_core.testing import check_component", []),
        ("from argus_core import authors\nauthors.near", []),
        ("from argus_core import authors\nauthors.absolute", ["argus_core.authors.absolute"]),
        ("import argus_core.authors as kit\nkit.absolute", ["argus_core.authors.absolute"]),
        ("from argus_core.runs.run import train", ["argus_core.runs.run.train"]),
        ("from argus_core import runs", ["argus_core.runs"]),
        ("from argus_core.authors import absolute", ["argus_core.authors.absolute"]),
        ("def f():\n    import argus_core.runs.run", ["argus_core.runs.run"]),
        ("if TYPE_CHECKING:\n    from argus_core.errors import near", ["argus_core.errors.near"]),
        ("import argus_core\nargus_core.runs.run.train()", ["argus_core.runs"]),
        ('import_module("argus_core.runs.run")', ["argus_core.runs.run"]),
    ],
)
def test_what_is_taken_from_elsewhere_is_found(source: str, taken: list[str]) -> None:
    assert outside(source) == taken


@pytest.mark.parametrize("name", authors.__all__)
def test_name_for_authors_is_there(name: str) -> None:
    assert hasattr(authors, name)
    assert name in dir(authors)


@pytest.mark.torchfree
def test_name_that_is_not_for_authors_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'argus_core.authors' has no attribute 'absolute'"):
        authors.absolute  # noqa: B018


@pytest.mark.torchfree
def test_import_costs_nothing_and_what_needs_no_torch_imports_none() -> None:
    code = (
        "import sys, argus_core.authors as authors\n"
        "print([name for name in sys.modules if name.startswith('argus_core.')], 'torch' in sys.modules)\n"
        f"print([name for name in {TORCH_FREE} if getattr(authors, name) and 'torch' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['argus_core.lazy', 'argus_core.authors'] False\n[]\n"


SOURCES = [
    *MODULES.values(),
    *(file for plugin in PLUGINS for file in sorted((plugin / "src").rglob("*.py"))),
]


@pytest.mark.torchfree
def test_nothing_depends_on_what_modules_are_called() -> None:
    # A class of a plugin's counts as much as one of this package: both declare what they do.
    by_name = re.compile(r"""__module__.*["']argus|startswith\(\(?["']argus""")
    found = {str(path): by_name.findall(path.read_text("utf-8")) for path in SOURCES}
    assert {path: lines for path, lines in found.items() if lines} == {}
