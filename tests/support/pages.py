"""Pages of documentation whose code runs: all blocks of a page, in order, as one test.

A fenced block counts by its language:

- ``python``: runs; the blocks of a page share their names.
- ``output``: what the ``python`` block before it printed; ``...`` stands for anything, and numbers with four
  decimals or more need not be the same.
- ``toml``: is parsed; a configuration is read as ``argus`` reads one, and its names are looked up.
- ``console``: ``$ argus ...`` runs, and what stands below it is compared like an ``output``; ``$ cd ...``
  changes the folder, from which Python imports then; other commands are not run.

A ``python`` or ``toml`` block that begins with a comment of nothing but a path is also written to that
file. ``<!-- skip: next -->`` leaves a block out.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch
from click.testing import CliRunner
from sybil import Example
from sybil.document import Document
from sybil.parsers.myst import CodeBlockParser, SkipParser

from argus_core.cli import main
from argus_core.config import read_config, specs_of
from argus_core.config.schema import EXTENDS, SECTIONS, TEMPLATE
from argus_core.config.template import read_layers
from argus_core.registry import discovery
from argus_core.registry.registry import isolated_registry, resolve

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WITH_PLUGINS = (DOCS / "tutorial/own-images.md",)
"""Pages that need more plugins than the core's own tests have; tests/installed runs them."""
PROJECTS = {
    name: DOCS / f"how-to/{page}.md"
    for name, page in (
        ("finetune", "pretrained"), ("imbalance", "imbalance"), ("segmentation", "segmentation"),
        ("text", "text"), ("tabular", "tabular"),
    )
}  # fmt: skip
"""The page of each project in ``examples``; tests/test_examples.py runs them."""

_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# What differs from machine to machine and from release to release.
_VARIABLE = (
    (re.compile(r"(?<=argus-)([a-z]+) +\d[\w.]*"), r"\1 VERSION"),
    (re.compile(r"\b\d+\.\d{4,}\b"), "NUMBER"),
    (re.compile(r"\b\d+\.\d(?= s\b|\n)"), "SECONDS"),
)
_EXPECTED_FAILURE = re.compile(
    r"error:|^ *fix:", re.IGNORECASE | re.MULTILINE
)  # the doctor's faults have fixes
_FILE = re.compile(r"# ([\w./-]+\.(?:py|toml))\n")
_FENCE = re.compile(r"^ *```(sh|console)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """Return the README and the documentation's pages, but for those of plugins, whose own tests run them."""
    elsewhere = (DOCS / "_build", DOCS / "changelog.d", DOCS / "plugins")
    found = (path for path in DOCS.rglob("*.md") if not any(folder in path.parents for folder in elsewhere))
    return [ROOT / "README.md", *sorted(found)]


def run(path: Path) -> None:
    """Run a page's code in the present folder, with a registry of its own of all that is installed."""
    folder = Path.cwd()
    document = Document.parse(str(path), *_PARSERS)
    document.namespace["__name__"] = "__main__"
    shutil.copytree(ROOT / "examples", "examples")
    torch.manual_seed(0)
    threads, path_of_modules = torch.get_num_threads(), sys.path[:]
    try:
        with _installed():
            for example in document.examples():
                example.evaluate()
    finally:
        torch.set_num_threads(threads)  # which a configuration may have changed
        sys.path[:] = path_of_modules
        _forget_modules(folder)


def commands(path: Path) -> list[str]:
    """Return the command lines that a page shows, without prompts."""
    text = path.read_text("utf-8")
    return [command for block in _FENCE.finditer(text) for command in _commands(block[1], block[2])]


def sub_commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command below a group, those of groups within it too, with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from sub_commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def parse_command(line: str) -> None:
    """Parse a line as ``argus`` does, if that is the command, without running it."""
    for part in line.split("&&"):
        name, *arguments = shlex.split(part, comments=True) or [""]
        if Path(name).name == "argus":
            _parse(arguments)


def difference(expected: str, found: str) -> str | None:
    """Return what differs, measured numbers and the packages' versions aside, or None."""
    want, got = (_without_variables(text.strip() + "\n") for text in (expected, found))
    checker = doctest.OutputChecker()
    if checker.check_output(want, got, _FLAGS):
        return None
    return checker.output_difference(doctest.Example("", want), got, _FLAGS | doctest.REPORT_NDIFF)


@contextlib.contextmanager
def _installed() -> Iterator[None]:
    """Use a registry that knows what is installed, and nothing that was registered or imported before."""
    with isolated_registry() as registry:
        registry.update(discovery.scan())
        yield


def _forget_modules(folder: Path) -> None:
    """Let Python import the modules in a folder again, as another process would."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(f"{folder.resolve()}{os.sep}"):
            del sys.modules[name]


def _commands(language: str, block: str) -> Iterator[str]:
    joined = block.replace("\\\n", " ")
    for line in joined.splitlines():
        if language == "sh" or line.startswith("$ "):
            yield line.removeprefix("$ ")


def _parse(arguments: list[str]) -> None:
    with contextlib.suppress(click.exceptions.Exit):  # --help and --version end here
        command: click.Command | None = main
        context = main.make_context("argus", list(arguments))
        while isinstance(command, click.Group):
            _, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            assert command is not None
            context = command.make_context(str(command.name), rest, parent=context)


def _run_python(example: Example) -> None:
    _write_named_file(example)
    source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, example.path, "exec", dont_inherit=True), example.namespace)
    example.namespace["_printed"] = printed.getvalue()


def _compare_output(example: Example) -> str | None:
    return difference(example.parsed, example.namespace["_printed"])


def _read_toml(example: Example) -> None:
    _write_named_file(example)
    document = tomllib.loads(example.parsed)
    if {"model", "data"} <= document.keys() or {TEMPLATE, EXTENDS} & document.keys():
        file = Path(".page.toml")
        file.write_text(example.parsed, "utf-8")
        config = read_config(file)
        file.unlink()
        _resolve_all({"model": config.model, "data": config.data, "fit": config.fit})
    elif document.keys() & SECTIONS.keys():
        _resolve_all(read_layers(document, example.path))


def _resolve_all(sections: dict[str, Any]) -> None:
    """Look up every name that a configuration chooses."""
    for section, values in sections.items():
        for key, known in SECTIONS.get(section, {}).items():
            if known.kind and key in values:
                for _, spec in specs_of(known.kind, values[key], key):
                    resolve(known.kind, spec.name)


def _run_commands(example: Example) -> str | None:
    lines = example.parsed.replace("\\\n", " ")
    for block in re.split(r"^(?=\$ )", lines, flags=re.MULTILINE):
        command, _, expected = block.partition("\n")
        name, *arguments = shlex.split(command.removeprefix("$ "), comments=True) or [""]
        if name == "cd":
            os.chdir(arguments[0])
            sys.path.insert(0, os.getcwd())
        if name != "argus":
            continue
        _forget_modules(Path.cwd())
        with _installed():  # as in a process of its own
            result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        if result.exit_code and not _EXPECTED_FAILURE.search(expected):
            return f"{command} failed:\n{result.output}"
        if expected.strip():
            differs = difference(expected, result.output)
            if differs:
                return f"{command}\n{differs}"
    return None


def _without_variables(text: str) -> str:
    for pattern, replacement in _VARIABLE:
        text = pattern.sub(replacement, text)
    return text


def _write_named_file(example: Example) -> None:
    named = _FILE.match(example.parsed)
    if named:
        file = Path(named[1])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(example.parsed, "utf-8")


_PARSERS = (
    CodeBlockParser("python", _run_python),
    CodeBlockParser("output", _compare_output),
    CodeBlockParser("toml", _read_toml),
    CodeBlockParser("console", _run_commands),
    SkipParser(),
)
