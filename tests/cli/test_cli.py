"""The commands that need no torch, and what all commands have in common."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import argus_core
from argus_core.cli import main, predict
from argus_core.config import BATCH_SIZE
from argus_core.errors import ArgusError, ArgusWarning
from argus_core.registry.component import KINDS

pytestmark = pytest.mark.torchfree

COMMANDS = ("train", "list", "show", "explain", "summary", "inspect", "predict", "new-plugin")


class Focal:
    """Looks away from what is right.

    Args:
        gamma: how far.
    """

    def __init__(self, gamma: float = 2.0, *, weights: list[float] | None = None) -> None:
        pass


def argus(*args: str, **options: Any) -> Result:
    """Call the command; what it does not handle is raised here."""
    return CliRunner().invoke(main, args, catch_exceptions=False, **options)


@pytest.fixture
def registry() -> Iterator[None]:
    with argus_core.isolated_registry():
        argus_core.register("loss", "focal")(Focal)
        yield


def fails_with(error: BaseException) -> None:
    """Register a component that raises ``error`` when ``argus show`` looks at its parameters."""

    class Failing:
        @property
        def __signature__(self) -> object:
            raise error

        def __call__(self) -> None: ...

    argus_core.register("loss", "failing", Failing())


# All commands.


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = argus(command, "--help")
    assert result.exit_code == 0
    assert f"\n    argus {command}" in result.output.partition("Examples:")[2]


@pytest.mark.parametrize("args", [(), ("--help",), ("-h",)])
def test_commands_are_listed_with_what_they_do(args: tuple[str, ...]) -> None:
    output = argus(*args).output
    for command in COMMANDS:
        assert re.search(rf"^  {command} +[A-Z].*[^.]\.$", output, re.MULTILINE), output  # not cut off


def test_version_is_that_of_the_distribution() -> None:
    assert re.fullmatch(r"argus-torch \d+\.\d+\.\d+.*\n", argus("--version").output)


def test_unknown_command_is_a_usage_error_with_near_names() -> None:
    result = argus("lst")
    assert result.exit_code == 2
    assert "no command 'lst'; did you mean 'list'?" in result.stderr


def test_command_like_no_other_is_told_what_there_is() -> None:
    assert "no command 'zzz'; the commands are train, resume, test, list, show, " in argus("zzz").stderr


@pytest.mark.parametrize("args", [("list", "--jsn"), ("--", "-x")])
def test_unknown_option_is_a_usage_error(args: tuple[str, ...]) -> None:
    assert argus(*args).exit_code == 2


def test_error_is_one_line_on_standard_error(registry: None) -> None:
    result = argus("show", "loss", "focl")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert re.fullmatch(r"error: no loss named 'focl'; did you mean 'focal'\?.*\n", result.stderr)


def test_traceback_is_shown_if_asked(registry: None) -> None:
    with pytest.raises(ArgusError, match="no loss named 'focl'"):
        argus("show", "loss", "focl", "--traceback")


def test_traceback_is_shown_if_the_environment_says_so(registry: None) -> None:
    with pytest.raises(ArgusError, match="no loss named 'focl'"):
        argus("show", "loss", "focl", env={"ARGUS_TRACEBACK": "1"})


def test_interrupt_is_one_line_and_a_status_of_its_own(registry: None) -> None:
    fails_with(KeyboardInterrupt())
    result = argus("show", "loss", "failing")
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


def test_error_that_nobody_expects_is_not_hidden(registry: None) -> None:
    @click.command()
    def failing() -> None:
        raise ZeroDivisionError("a mistake")

    argus_core.register("command", "failing", failing)
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        argus("failing")


@pytest.mark.filterwarnings("default")
def test_own_warning_is_one_line(registry: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def loads_with_a_warning(*_: object) -> list[object]:
        warnings.warn("results may differ", ArgusWarning, stacklevel=1)
        return []

    monkeypatch.setattr("argus_core.cli.list.components", loads_with_a_warning)
    assert argus("list", "loss").stderr == "warning: results may differ\n"


@pytest.mark.filterwarnings("default")
def test_warning_of_others_keeps_its_place(registry: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def loads_with_a_warning(*_: object) -> list[object]:
        warnings.warn("old", FutureWarning, stacklevel=1)
        return []

    monkeypatch.setattr("argus_core.cli.list.components", loads_with_a_warning)
    with pytest.warns(FutureWarning, match="old"):
        argus("list", "loss")


# list.


@pytest.mark.parametrize("group", [(), ("plugins",)])
def test_help_describes_each_command_in_a_whole_sentence(group: tuple[str, ...]) -> None:
    listed = argus(*group, "--help").output.partition("Commands:\n")[2].partition("\n\n")[0]
    sentences = [line.split(maxsplit=1)[1] for line in listed.splitlines()]
    assert len(sentences) >= 4
    assert [each for each in sentences if not re.fullmatch(r"[A-Z].*[^.]\.", each)] == []


def test_list_shows_the_package_that_declares_a_class_of_torch_and_the_one_that_defines_it() -> None:
    rows = [line.split() for line in argus("list", "loss").output.splitlines()]
    assert ["loss", "CrossEntropyLoss", "argus-torch", "torch"] in [[*row[:3], *row[4:5]] for row in rows]


def test_list_aligns_names_providers_versions_packages_and_states(
    scan_registry: Any, fake_distribution: Any
) -> None:
    fake_distribution("medseg", "2.1", {"loss": {"dice": "medseg:Dice"}, "nn_module": {"u": "medseg:U"}})
    scan_registry()
    argus_core.register("loss", "focal")(Focal)
    lines = argus("list").output.splitlines()
    assert lines[:4] == [
        "kind       name   provider  version  defined in  state",
        "nn_module  u      medseg    2.1      medseg      declared",
        "loss       dice   medseg    2.1      medseg      declared",
        "loss       focal                     test_cli    loaded",
    ]
    assert lines[-1] == f"3 components of {len(KINDS)} kinds; argus show KIND NAME describes one"


def test_name_without_end_makes_no_other_row_longer(scan_registry: Any, fake_distribution: Any) -> None:
    names = ["x" * 1900, *(f"loss{index}" for index in range(20))]
    fake_distribution("medseg", "2.1", {"loss": dict.fromkeys(names, "medseg:Loss")})
    scan_registry()
    long, *others = sorted(argus("list", "loss").output.splitlines(), key=len, reverse=True)
    assert long.split()[1].startswith("x" * 100)
    assert max(map(len, others)) < 200


def test_list_takes_one_kind(registry: None) -> None:
    assert argus("list", "loss").output.splitlines()[1:] == [
        "loss  focal                     test_cli    loaded"
    ]


def test_list_of_a_kind_without_components_says_so(registry: None) -> None:
    assert (
        argus("list", "parallel").output
        == "no components of kind parallel; install a plugin that provides some\n"
    )


def test_list_of_an_unknown_kind_is_refused() -> None:
    assert "no kind 'los'; did you mean 'loss'?" in argus("list", "los").stderr


def test_list_is_read_by_programs_as_json(registry: None) -> None:
    assert json.loads(argus("list", "--json").output) == [
        {
            "kind": "loss",
            "name": "focal",
            "provider": None,
            "version": None,
            "target": "test_cli:Focal",
            "state": "loaded",
        }
    ]


def test_list_shows_blocked_components(scan_registry: Any, fake_distribution: Any, monkeypatch: Any) -> None:
    fake_distribution("medseg", "2.1", {"loss": {"dice": "medseg:Dice"}})
    monkeypatch.setenv("ARGUS_DISABLE_PLUGINS", "medseg")
    scan_registry()
    assert argus("list", "loss").output.splitlines()[1].endswith("blocked")


def test_list_is_a_table_on_a_terminal(registry: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("argus_core.cli.table.is_terminal", lambda: True)
    assert re.search(r"│ loss +│ focal +│", argus("list", "loss").output)


# show.


def test_show_tells_all_about_a_component(registry: None) -> None:
    lines = argus("show", "loss", "focal").output.splitlines()
    assert lines[0] == "loss focal  (this process)"
    assert re.fullmatch(r"defined in .*test_cli\.py:\d+ as test_cli:Focal", lines[1])
    assert lines[3] == "focal(gamma: float = 2.0, *, weights: list[float] | None = None)"
    assert lines[5:] == ["Looks away from what is right.", "", "Args:", "    gamma: how far."]


def test_show_finds_the_kind_by_itself(registry: None) -> None:
    assert argus("show", "focal").output == argus("show", "loss", "focal").output


def test_show_asks_for_the_kind_where_several_have_the_name(registry: None) -> None:
    argus_core.register("transform", "focal", Focal)
    result = argus("show", "focal")
    assert result.exit_code == 2
    assert "choose one: argus show loss focal or argus show transform focal" in " ".join(
        result.output.split()
    )


def test_show_of_a_name_of_no_kind_suggests_others(registry: None) -> None:
    result = argus("show", "fokal")
    assert result.exit_code == 1
    assert "error: no component named 'fokal'; did you mean 'focal'?" in result.output


def test_show_puts_many_parameters_below_each_other(registry: None) -> None:
    def long(
        first_parameter: int, second_parameter: str = "a long default value", third: float = 0.0
    ) -> None: ...

    argus_core.register("loss", "long", long)
    output = argus("show", "loss", "long").output
    assert (
        "\nlong(\n    first_parameter: int,\n    second_parameter: str = 'a long default value',\n" in output
    )


def test_show_leaves_out_what_the_model_gives(registry: None) -> None:
    def sgd(params: object, lr: float = 0.1) -> None: ...

    argus_core.register("optimizer", "sgd", sgd)
    assert "\nsgd(lr: float = 0.1)\n" in argus("show", "optimizer", "sgd").output


def test_show_is_read_by_programs_as_json(registry: None) -> None:
    record = json.loads(argus("show", "loss", "focal", "--json").output)
    assert record["parameters"] == [
        {"name": "gamma", "type": "float", "required": False, "default": "2.0"},
        {"name": "weights", "type": "list[float] | None", "required": False, "default": "None"},
    ]
    assert (record["name"], record["target"]) == ("focal", "test_cli:Focal")
    assert record["documentation"].startswith("Looks away")


def test_show_finds_what_a_factory_wraps(registry: None) -> None:
    made = type("Made", (Focal,), {"__wrapped__": Focal})
    argus_core.register("loss", "made", made)
    place = argus("show", "loss", "focal").output.partition("defined in ")[2].partition(" as ")[0]
    assert f"defined in {place} as test_cli:Made" in argus("show", "loss", "made").output


def test_show_does_without_what_compiled_code_lacks(registry: None) -> None:
    argus_core.register("loss", "compiled", dict)
    assert (
        "defined in compiled code as builtins:dict\n\ncompiled()\n"
        in argus("show", "loss", "compiled").output
    )


def test_show_tells_why_a_component_is_broken(scan_registry: Any, fake_distribution: Any) -> None:
    fake_distribution("medseg", "2.1", {"loss": {"dice": "medseg:Dice"}}, {"medseg": "raise SystemExit(3)"})
    scan_registry()
    result = argus("show", "loss", "dice")
    assert result.exit_code == 1
    assert (
        "error: loss 'dice' of medseg 2.1 cannot be loaded from 'medseg:Dice': SystemExit: 3; "
        in result.stderr
    )


# What is refused before torch is needed.


@pytest.mark.parametrize("command", ["train", "explain"])
def test_missing_configuration_is_refused(command: str, tmp_path: Path) -> None:
    result = argus(command, str(tmp_path / "digits.toml"))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: no configuration '")


@pytest.mark.parametrize("command", ["train", "explain"])
def test_configuration_with_a_typo_is_refused(command: str, tmp_path: Path) -> None:
    (tmp_path / "digits.toml").write_text("[fit]\nnum_epoch = 3\n", "utf-8")
    result = argus(command, str(tmp_path / "digits.toml"))
    assert result.stderr.endswith("digits.toml: [fit] has 'num_epoch'; did you mean 'num_epochs'?\n")


def test_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    result = argus("inspect", str(tmp_path / "best.safetensors"))
    assert (result.exit_code, result.stderr.startswith("error: no checkpoint at ")) == (1, True)


# Processes of their own.


def test_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "argus_core", "lst"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: argus [OPTIONS] COMMAND")


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--version"],
        ["list"],
        ["list", "nn_module", "--json"],
        *([command, "--help"] for command in COMMANDS),
        ["inspect", "nowhere"],
        ["train", "nowhere"],
    ],
    ids=" ".join,
)
def test_command_imports_no_torch_and_no_plugin(args: list[str]) -> None:
    code = (
        "import sys\n"
        "from argus_core.cli import main\n"
        f"try: main({args!r}, prog_name='argus')\n"
        "except SystemExit: pass\n"
        "unwanted = {'torch', 'numpy', 'argus_sklearn', 'argus_example', 'rich'} & set(sys.modules)\n"
        "assert not unwanted, unwanted\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_importing_the_command_imports_click_alone() -> None:
    code = (
        "import sys; before = set(sys.modules); import argus_core.cli; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['argus_core', 'click']"


def test_the_batch_size_of_predict_is_that_of_a_configuration() -> None:
    options = {option.name: option for option in predict.command.params}
    assert options["batch_size"].default == BATCH_SIZE


@pytest.mark.parametrize("arguments", [["--help"], ["list"]])
def test_who_lists_or_helps_waits_for_no_configuration_log_or_lock(arguments: list[str]) -> None:
    code = (
        "import sys; before = {*sys.modules}; from argus_core.cli import main; "
        f"main({arguments!r}, standalone_mode=False); slow = {{'argus_core.config', 'filelock', 'logging'}}; "
        "sys.exit(', '.join(slow & sys.modules.keys() - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""
