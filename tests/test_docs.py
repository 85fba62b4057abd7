"""The documentation keeps its word: its code runs, and it covers all that there is."""

from __future__ import annotations

import ast
import inspect
import json
import re
import runpy
from pathlib import Path
from typing import Any

import click
import pages
import pytest
from test_import_order import READING_ORDER

import argus_core
from argus_core import authors, errors, testing
from argus_core.callbacks.hooks import RunHooks
from argus_core.cli import main
from argus_core.cli.launching_command import LaunchingCommand
from argus_core.config import SECTIONS
from argus_core.registry.component import BUILTIN, KINDS
from argus_core.registry.registry import components
from argus_core.scaffold import MADE_KINDS
from argus_core.steps.hooks import Composition, StepHooks, composition_of

# tests/installed runs the pages of plugins, where they are installed, and test_examples.py those of projects.
PAGES = [page for page in pages.pages() if pages.DOCS in page.parents and page.parent.name != "plugins"]
RUN_ELSEWHERE = {*pages.WITH_PLUGINS, *pages.PROJECTS.values()}
SLOTS = [name for name in vars(StepHooks) if not name.startswith("_")]
HOOKS = [
    *((RunHooks, name) for name in vars(RunHooks) if not name.startswith("_")),
    *((StepHooks, name) for name in SLOTS),
]
COMMANDS = list(pages.sub_commands(main))
STRATEGIES = [component for component in components("step") if component.provider == BUILTIN]
BUILTINS = [
    component
    for kind in ("metric", "callback")
    for component in components(kind)
    if component.provider == BUILTIN
]

each_strategy = pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.name)


def text_of(page: str) -> str:
    return (pages.DOCS / page).read_text("utf-8")


def section_of(page: str, heading: str) -> str:
    """Return what stands under a heading, up to the next of the same level or above."""
    level = heading.partition(" ")[0]
    _, found, after = text_of(page).partition(f"\n{heading}\n")
    assert found, f"docs/{page} has no heading {heading!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", after, maxsplit=1, flags=re.MULTILINE)[0]


def documented_options(section: str) -> set[str]:
    return set(re.findall(r"^\| `(--[\w-]+)", section, re.MULTILINE))


def section_of_strategy(strategy: argus_core.Component) -> str:
    return section_of("reference/step-strategies.md", f"## `{strategy.name}`")


def slots_of(strategy: argus_core.Component) -> list[str]:
    return [slot for slot in SLOTS if hasattr(strategy.load(), slot)]


def _id(page: Path) -> str:
    return page.relative_to(pages.DOCS).as_posix()


@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize("page", [page for page in PAGES if page not in RUN_ELSEWHERE], ids=_id)
def test_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pages.run(page)


def test_picture_of_an_update_is_what_its_script_draws() -> None:
    script = runpy.run_path(str(pages.DOCS / "picture.py"))
    assert script["FILE"].read_text("utf-8") == script["drawing"](), "run python docs/picture.py"


def test_code_of_a_page_fits_the_site_without_scrolling() -> None:
    published = [*pages.pages(), *pages.DOCS.glob("plugins/*.md"), *pages.ROOT.glob("plugins/*/README.md")]
    block = re.compile(r"^```(?:python|toml|json)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
    code = [(page, found) for page in published for found in block.findall(page.read_text("utf-8"))]
    assert len(code) > 100
    assert [(page, line) for page, lines in code for line in lines.splitlines() if len(line) > 110] == []


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
    examples = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert examples
    if specification is RunHooks:
        assert f"on_{name}\n" in examples[0] or f'on_event("{name}")' in examples[0]


@pytest.mark.parametrize("name", SLOTS)
def test_examples_of_a_slot_take_arguments_that_it_has(name: str) -> None:
    examples = re.findall(r"^```python\n(.*?)^```$", text_of("reference/hooks.md"), re.MULTILINE | re.DOTALL)
    implementations = [
        {argument.arg for argument in node.args.args}
        for node in ast.walk(ast.parse("\n".join(examples)))
        if isinstance(node, ast.FunctionDef) and node.name == name
    ]
    assert implementations
    # A strategy may leave out arguments that it does not use.
    assert set().union(*implementations) <= set(inspect.signature(getattr(StepHooks, name)).parameters)


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


@pytest.mark.parametrize("section", SECTIONS)
def test_bounds_of_numbers_are_documented_as_the_configuration_has_them(section: str) -> None:
    section_text = section_of("reference/config.md", f"## `[{section}]`")
    documented = dict(
        re.findall(r"^\| `(\w+)` \| .*? \| (a whole number.*?) \| .*? \|$", section_text, re.MULTILINE)
    )
    known = {key: known.takes for key, known in SECTIONS[section].items() if "number" in known.takes}
    assert documented == known


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_command_is_documented_with_its_arguments_options_and_an_example(
    name: str, command: click.Command
) -> None:
    usage = " ".join(
        piece for piece in command.collect_usage_pieces(click.Context(command)) if piece != "[OPTIONS]"
    )
    section = section_of("reference/cli.md", f"## `argus {name} {usage}".rstrip() + "`")
    options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    if isinstance(command, LaunchingCommand):
        launching = documented_options(section_of("reference/cli.md", "## Several processes"))
        assert launching <= options
        options -= launching - {"--nproc-per-node"}
    assert documented_options(section) == options - {"--traceback"}
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


@pytest.mark.parametrize("name", authors.__all__)
def test_name_for_authors_is_documented(name: str) -> None:
    assert re.search(rf"\bargus_core\.authors\.{name}\b", text_of("reference/authors.md"))
    value = getattr(authors, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value)


@pytest.mark.parametrize("name", testing.__all__)
def test_name_for_tests_is_documented(name: str) -> None:
    assert re.search(rf"\bargus_core\.testing\.{name}\b", text_of("reference/testing.md"))


@pytest.mark.parametrize("component", BUILTINS, ids=lambda component: component.name)
def test_builtin_part_is_documented(component: argus_core.Component) -> None:
    section = section_of("reference/built-in.md", f"### `{component.name}`")
    assert f"autoclass:: {component.target.replace(':', '.')}\n" in section


@each_strategy
def test_step_strategy_has_its_class_and_an_example(strategy: argus_core.Component) -> None:
    section = section_of_strategy(strategy)
    assert f"autoclass:: {strategy.target.replace(':', '.')}\n" in section
    examples = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert f'"{strategy.name}"' in "".join(examples)


@each_strategy
def test_step_strategy_is_documented_with_a_source(strategy: argus_core.Component) -> None:
    (source,) = re.findall(r"^\*Source:\* (.*?)\n\n", section_of_strategy(strategy), re.MULTILINE | re.DOTALL)
    assert re.search(r"https://(arxiv\.org/abs/\d{4}\.\d{5}|doi\.org/10\.|docs\.pytorch\.org/)", source)


@each_strategy
def test_step_strategy_is_documented_with_its_parameters_and_their_defaults(
    strategy: argus_core.Component,
) -> None:
    section = section_of_strategy(strategy)
    table = re.findall(r"^\| `([\w*]+)` \| (?:`(.*?)`|(\w+)) \| .*?\| .* \|$", section, re.MULTILINE)
    documented = [(name, ast.literal_eval(code) if code else words) for name, code, words in table]
    parameters = inspect.signature(strategy.load()).parameters.values()
    assert documented == [(str(each).partition(":")[0], _default(each)) for each in parameters]
    assert ("*Parameters:* none." in section) == (not documented)


@each_strategy
def test_step_strategy_is_documented_with_its_slots(strategy: argus_core.Component) -> None:
    (slots,) = re.findall(r"^\*Slots:\* (.*?)\.", section_of_strategy(strategy), re.MULTILINE | re.DOTALL)
    documented = dict(re.findall(r"`(\w+)`\s\((\w+)\)", slots))
    assert documented == {slot: composition_of(slot).value for slot in slots_of(strategy)}


@each_strategy
def test_step_strategy_is_documented_with_what_it_does_not_go_with(strategy: argus_core.Component) -> None:
    _, found, after = section_of_strategy(strategy).partition("\n*Does not go with:* ")
    assert found
    paragraph = after.partition("\n\n")[0]
    factory = strategy.load()
    declared = {*getattr(factory, "conflicts", ()), *getattr(factory, "requires", ())}
    owned = {slot for slot in slots_of(strategy) if composition_of(slot) is Composition.OWNER}
    named = declared | (owned if strategy.name != "default" else set())
    assert named <= set(re.findall(r"`([\w:]+)`", paragraph))
    assert paragraph.startswith("nothing") == (not named)


@pytest.mark.parametrize("slot", SLOTS)
def test_slot_is_documented_with_the_built_in_strategies_in_it(slot: str) -> None:
    (section,) = re.findall(
        rf"^### `{slot}\(.*?\)`\n(.*?)^```", text_of("reference/hooks.md"), re.MULTILINE | re.DOTALL
    )
    named = re.findall(r"Built[ -]in(?: owners?)?:((?:\s`\w+`,?(?:\sand)?)+)\.", section)
    expected = [each.name for each in STRATEGIES if slot in slots_of(each) and each.name != "default"]
    assert re.findall(r"`(\w+)`", "".join(named)) == expected


@pytest.mark.parametrize("parameter", list(inspect.signature(argus_core.load_model).parameters)[1:-1])
def test_argument_of_load_model_has_an_example(parameter: str) -> None:
    assert re.search(rf"\b{parameter}=", text_of("how-to/advanced-loading.md"))


@pytest.mark.parametrize("kind", MADE_KINDS)
def test_each_kind_has_a_page_on_publishing_with_a_part_its_entry_point_its_check_and_mistakes(
    kind: str,
) -> None:
    text = text_of(f"how-to/publish/{kind}.md")
    _, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    headings = [section.partition("\n")[0] for section in sections]
    assert headings == ["The smallest good one", "Its entry point", "Its check", "Common mistakes"]
    part, entry_point, check, mistakes = sections
    name = re.search(rf'argus_core\.register\("{kind}", "(\w+)", (\w+)\)', part)
    assert name is not None
    group = f'[project.entry-points."argus_core.{kind}"]\n{name[1]} = "medseg.'
    assert group in entry_point
    assert f":{name[2]}" in entry_point
    assert f'check_component("{kind}", "{name[1]}"' in check
    assert f"```output\n{'step strategy' if kind == 'step' else kind} '" in mistakes
    assert "| mistake | result | instead |" in mistakes


def test_kinds_are_listed_where_publishing_is_explained_and_where_words_are() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", text_of("how-to/publish/index.md"), re.MULTILINE)
    assert set(listed) == set(KINDS)
    (words,) = re.findall(r"^\| kind \| a category of parts: (.*) \|$", text_of("index.md"), re.MULTILINE)
    assert words == ", ".join(f"`{kind}`" for kind in KINDS)


def _default(parameter: inspect.Parameter) -> Any:
    if parameter.kind is parameter.VAR_KEYWORD:
        return "none"
    return "required" if parameter.default is parameter.empty else parameter.default


def test_each_package_has_a_row_in_its_reading_order_with_files_to_edit_and_tests_that_exist() -> None:
    section = section_of("explanation/architecture.md", "## To change X, edit Y, test in Z")
    rows = re.findall(r"^\| `(\w+)` \| .+? \| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    assert tuple(package for package, _, _ in rows) == READING_ORDER
    for package, edit, test in rows:
        first, *others = re.findall(r"`([\w./-]+)`", edit)
        assert first in (f"{package}/", f"{package}.py")
        paths = [
            f"argus_core/{first}",
            *(each if "/" in each[:-1] else f"argus_core/{first}{each}" for each in others),
        ]
        paths += re.findall(r"`([\w./-]+)`", test)
        assert [path for path in paths if not (pages.ROOT / path).exists()] == []
        assert any(path.startswith("tests/") for path in paths)


def test_paths_on_the_page_about_the_code_exist() -> None:
    text = text_of("explanation/architecture.md")
    paths = set(re.findall(r"`((?:argus_core|tests|docs|plugins|examples)/[\w./-]*)`", text)) - {"tests/"}
    assert [
        path for path in sorted(paths) if "PACKAGE" not in path and not (pages.ROOT / path).exists()
    ] == []


def test_functions_are_where_the_page_about_the_code_says() -> None:
    section = section_of("explanation/architecture.md", "## Where does it happen?")
    named = re.findall(r"`([\w.]+)`[^`]*? in\s+`(argus_core/[\w/]+\.py)`", section)
    assert len(named) > 10
    for name, path in named:
        source = (pages.ROOT / path).read_text("utf-8")
        for each in name.split("."):
            assert re.search(rf"^ *(?:class|def) {each}\b", source, re.MULTILINE), f"no {name} in {path}"
