"""The documentation keeps its word: its code runs, and it covers all that there is."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import click
import pages
import pytest
from test_import_order import READING_ORDER

import argus_core
from argus_core import errors
from argus_core.cli import main
from argus_core.components import BUILTIN
from argus_core.config import SECTIONS
from argus_core.hooks import RunHooks, StepHooks, composition_of
from argus_core.registry import components

PAGES = [page for page in pages.pages() if pages.DOCS in page.parents]
SLOTS = [name for name in vars(StepHooks) if not name.startswith("_")]
HOOKS = [
    *((RunHooks, name) for name in vars(RunHooks) if not name.startswith("_")),
    *((StepHooks, name) for name in SLOTS),
]
COMMANDS = main.list_commands(click.Context(main))
DOCUMENTED_KINDS = ("step", "metric", "callback")
BUILTINS = [
    component for kind in DOCUMENTED_KINDS for component in components(kind) if component.provider == BUILTIN
]


def text_of(page: str) -> str:
    return (pages.DOCS / page).read_text("utf-8")


def section_of(page: str, heading: str) -> str:
    """Return what stands under a heading, up to the next of the same level or above."""
    level = heading.partition(" ")[0]
    _, found, after = text_of(page).partition(f"\n{heading}\n")
    assert found, f"docs/{page} has no heading {heading!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", after, maxsplit=1, flags=re.MULTILINE)[0]


def _id(page: Path) -> str:
    return page.relative_to(pages.DOCS).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pages.run(page)


@pytest.mark.parametrize("page", [*PAGES, pages.ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_commands_of_a_page_are_those_of_argus(page: Path) -> None:
    for command in pages.commands(page):
        pages.parse_command(command)


@pytest.mark.parametrize(
    ("specification", "name"), HOOKS, ids=lambda value: getattr(value, "__name__", value)
)
def test_hook_is_documented_with_its_arguments_and_an_example(specification: type, name: str) -> None:
    arguments = list(inspect.signature(getattr(specification, name)).parameters)[1:]
    section = section_of("reference/hooks.md", f"### `{name}({', '.join(arguments)})`")
    assert "```python" in section


@pytest.mark.parametrize("name", SLOTS)
def test_slot_is_documented_with_its_composition(name: str) -> None:
    found = re.search(
        rf"^### `{name}\(.*\)`\n\nComposition: (\w+)\.", text_of("reference/hooks.md"), re.MULTILINE
    )
    assert found is not None
    assert found[1] == composition_of(name).value


def test_no_hook_is_documented_that_is_not_there() -> None:
    documented = re.findall(r"^### `(\w+)\(", text_of("reference/hooks.md"), re.MULTILINE)
    assert documented == [name for _, name in HOOKS]


@pytest.mark.parametrize("section", SECTIONS)
def test_keys_of_the_configuration_are_documented_with_their_defaults(section: str) -> None:
    section_text = section_of("reference/config.md", f"## `[{section}]`")
    table = re.findall(r"^\| `(\w+)` \| (.*?) \| .*? \| (.*?) \|$", section_text, re.MULTILINE)
    expected = []
    for key, known in SECTIONS[section].items():
        default = "" if known.default is None else f"`{json.dumps(known.default)}`"
        expected.append((key, known.about, "required" if known.required else default))
    assert [(key, about, default.strip()) for key, about, default in table] == expected


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_documented_with_its_arguments_options_and_an_example(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    usage = " ".join(
        piece for piece in command.collect_usage_pieces(click.Context(command)) if piece != "[OPTIONS]"
    )
    section = section_of("reference/cli.md", f"## `argus {name} {usage}`")
    options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    assert set(re.findall(r"^\| `(--[\w-]+)", section, re.MULTILINE)) == options - {"--traceback"}
    assert f"$ argus {name}" in section


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name.endswith("Error")])
def test_error_is_documented_with_when_and_what_to_do(name: str) -> None:
    section = section_of("reference/errors.md", f"## `{name}`")
    assert re.search(r"\*When:\*.*\*Do:\*", section, re.DOTALL)


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name.endswith("Warning")])
def test_warning_is_documented(name: str) -> None:
    assert f"| `{name}` |" in section_of("reference/errors.md", "## Warnings")


@pytest.mark.parametrize("name", argus_core.__all__)
def test_public_name_is_documented(name: str) -> None:
    assert re.search(rf"\bargus_core\.{name}\b", text_of("reference/api.md"))


@pytest.mark.parametrize("component", BUILTINS, ids=lambda component: component.name)
def test_builtin_part_is_documented(component: argus_core.Component) -> None:
    section = section_of("reference/built-in.md", f"### `{component.name}`")
    assert f"autoclass:: {component.target.replace(':', '.')}\n" in section


@pytest.mark.parametrize("parameter", list(inspect.signature(argus_core.load_model).parameters)[1:-1])
def test_argument_of_load_model_has_an_example(parameter: str) -> None:
    assert re.search(rf"\b{parameter}=", text_of("how-to/advanced-loading.md"))


def test_modules_stand_in_their_reading_order() -> None:
    section = section_of("explanation/architecture.md", "## Modules, in reading order")
    assert tuple(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == READING_ORDER


def test_paths_in_the_table_of_changes_exist() -> None:
    section = section_of("explanation/architecture.md", "## To change X, edit Y, test in Z")
    paths = re.findall(r"`([\w./-]+(?:/|\.\w+))`", section)
    assert len(paths) > 50
    missing = [path for path in paths if path != "tests/" and not (pages.ROOT / path).exists()]
    assert missing == []
