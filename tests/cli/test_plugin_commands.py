"""A plugin adds a sub-command: found by name in the registry, and imported when it is called."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import argus_core
from argus_core.cli import main
from argus_core.registry.registry import Registry

pytestmark = pytest.mark.torchfree

SOURCE = """
import click
from argus_core.errors import ConfigError

@click.command("crosscheck")
@click.option("--folds", default=5)
def crosscheck(folds):
    '''Cross-validate.'''
    if folds < 2:
        raise ConfigError(f"{folds} folds are too few; give 2 or more")
    if folds > 99:
        raise MemoryError
    click.echo(f"{folds} folds")

def function(): ...
"""

Scan = Callable[[], Registry]


def argus(*args: str, **options: Any) -> Result:
    """Call the command; what it does not handle is raised here."""
    return CliRunner().invoke(main, args, catch_exceptions=False, **options)


@pytest.fixture
def medseg(fake_distribution: Any, scan_registry: Scan) -> None:
    """Install a plugin with a command, and others that nobody can use."""
    targets = {"crosscheck": "medseg:crosscheck", "numeric": "medseg:function", "gone": "medseg:gone"}
    entry_points = {
        "command": targets | {"list": "medseg:crosscheck"},
        "removed": {"command.cv": "crosscheck"},
    }
    fake_distribution("medseg", "2.1", entry_points, {"medseg": SOURCE})
    scan_registry()


@pytest.mark.usefixtures("medseg")
@pytest.mark.parametrize("name", ["crosscheck", "medseg/crosscheck", "medseg/list"])
def test_command_of_a_plugin_is_called(name: str) -> None:
    assert argus(name, "--folds", "3").output == "3 folds\n"


@pytest.mark.usefixtures("medseg")
def test_command_of_a_plugin_has_help_and_the_options_of_every_command() -> None:
    output = argus("crosscheck", "--help").output
    assert " crosscheck [OPTIONS]" in output.splitlines()[0]
    assert "--traceback" in output


@pytest.mark.usefixtures("medseg")
def test_error_of_a_plugins_command_is_one_line() -> None:
    result = argus("crosscheck", "--folds", "1")
    assert (result.exit_code, result.stderr) == (1, "error: 1 folds are too few; give 2 or more\n")


@pytest.mark.usefixtures("medseg")
def test_memory_that_is_not_there_is_one_line() -> None:
    result = argus("crosscheck", "--folds", "100")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: the process is out of memory; allow it more, or give it less to do\n",
    )


@pytest.mark.usefixtures("medseg")
def test_wrong_usage_of_a_plugins_command_is_a_usage_error() -> None:
    assert argus("crosscheck", "--fold").exit_code == 2


@pytest.mark.usefixtures("medseg")
def test_help_lists_commands_of_plugins_without_importing_them() -> None:
    _, found, section = argus("--help").output.partition("Commands of plugins:\n")
    assert found
    assert [line.split() for line in section.partition("\n\n")[0].splitlines()] == [
        ["crosscheck", "from", "medseg", "2.1"],
        ["gone", "from", "medseg", "2.1"],
        ["medseg/list", "from", "medseg", "2.1"],
        ["numeric", "from", "medseg", "2.1"],
    ]
    assert "medseg" not in sys.modules


def test_help_has_no_section_for_plugins_where_there_are_none() -> None:
    with argus_core.isolated_registry():
        assert "Commands of plugins" not in argus("--help").output


def test_help_is_printed_with_pins_that_cannot_be_read(
    fake_distribution: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("pyproject.toml").write_text("[tool.argus.prefer", "utf-8")
    monkeypatch.setattr("argus_core.registry.registry._process", None)
    result = argus("--help")
    assert result.exit_code == 0
    assert "  train " in result.output


@pytest.mark.usefixtures("medseg")
def test_plugin_does_not_shadow_a_built_in_command() -> None:
    assert argus("list", "command").output.startswith("kind ")


@pytest.mark.usefixtures("medseg")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("croscheck", "no command 'croscheck'; did you mean 'crosscheck'?"),
        ("lst", "no command 'lst'; did you mean 'list'?"),
        (
            "sweep",
            "no command 'sweep'; in a checkout of argus_core: pip install -e . -e plugins/argus-optuna",
        ),
        ("zzz", "no command 'zzz'; the commands are train, resume, test, list, "),
    ],
)
def test_unknown_command_is_a_usage_error_that_knows_the_plugins(name: str, message: str) -> None:
    result = argus(name)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert "medseg" not in sys.modules


@pytest.mark.usefixtures("medseg")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("numeric", "is 'medseg:function', a function; it must be a click.Command; ask its author to "),
        ("gone", "cannot be loaded from 'medseg:gone': AttributeError: module 'medseg' has no attribute "),
        ("cv", "command 'cv' was removed from medseg 2.1; use 'crosscheck'"),
        ("medseg/zzz", "no command named 'zzz' in medseg 2.1 (4 known: argus list command)"),
    ],
)
def test_command_that_cannot_be_used_is_one_sentence(name: str, message: str) -> None:
    result = argus(name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("source", ["raise SystemExit(3)", "import nowhere_at_all", "def f(:"])
def test_plugin_that_breaks_on_import_does_not_end_the_program(
    source: str, fake_distribution: Any, scan_registry: Scan
) -> None:
    fake_distribution("medseg", "2.1", {"command": {"crosscheck": "medseg:crosscheck"}}, {"medseg": source})
    scan_registry()
    result = argus("crosscheck")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: command 'crosscheck' of medseg 2.1 cannot be loaded from ")
    assert argus("list", "command").exit_code == 0


def test_command_of_two_plugins_is_ambiguous(fake_distribution: Any, scan_registry: Scan) -> None:
    for name in ("medseg", "other"):
        fake_distribution(name, "1.0", {"command": {"crosscheck": "medseg:crosscheck"}})
    scan_registry()
    result = argus("crosscheck")
    assert result.exit_code == 1
    assert "write 'other/crosscheck' or 'medseg/crosscheck', or pin one" in result.stderr
    assert "  medseg/crosscheck  from medseg 1.0\n  other/crosscheck   from other 1.0" in argus("-h").output


def test_blocked_command_says_what_blocks_it(
    fake_distribution: Any, scan_registry: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_distribution("medseg", "1.0", {"command": {"crosscheck": "medseg:crosscheck"}})
    monkeypatch.setenv("ARGUS_DISABLE_PLUGINS", "medseg")
    scan_registry()
    assert "is switched off by ARGUS_DISABLE_PLUGINS; remove medseg" in argus("crosscheck").stderr
    assert "Commands of plugins" not in argus("--help").output


def test_command_can_be_registered_in_process() -> None:
    @click.command()
    def hello() -> None:
        click.echo("hello")

    with argus_core.isolated_registry():
        argus_core.register("command", "hello", hello)
        assert argus("hello").output == "hello\n"


@pytest.mark.parametrize("args", [["train", "nowhere"], ["inspect", "nowhere"], ["train", "--help"]])
def test_built_in_command_is_found_without_a_scan(args: list[str]) -> None:
    code = (
        "import sys\n"
        "from argus_core.cli import main\n"
        f"try: main({args!r}, prog_name='argus')\n"
        "except SystemExit: pass\n"
        "registry = sys.modules.get('argus_core.registry.registry')\n"
        "assert registry is None or registry._process is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
