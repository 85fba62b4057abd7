"""`argus plugins validate` checks an installed package and tells every fault, whatever the package does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from testing_servers import server_with

from argus_core.cli import main
from argus_core.registry import discovery
from argus_core.registry.registry import isolated_registry

GOOD = '''
import torch

class Half(torch.nn.Module):
    """Half of the mean squared error."""

    def forward(self, input, target):
        return (input - target).square().mean() / 2
'''
BAD = '''
import torch

class Rooted(torch.nn.Module):
    """The root of the mean squared error, which is no mean over the samples."""

    def forward(self, input, target):
        return (input - target).square().mean().sqrt()

class Failing(torch.nn.Module):
    """Cannot be built."""

    def __init__(self):
        raise RuntimeError("no such file: weights.bin")
'''
ENTRY_POINTS = {
    "loss": {"half": "half_losses:Half"},
    "losss": {"typo": "half_losses:Half"},
    "nn_module": {
        "failing": "bad_losses:Failing",
        "missing": "bad_losses:Missing",
        "unimportable": "broken_losses:Net",
    },
}


def argus(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["plugins", "validate", *arguments], catch_exceptions=False)


@pytest.fixture
def install(
    fake_distribution: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., None]]:
    """Install a distribution where this process and a new server find it."""
    with isolated_registry() as registry, ExitStack() as stack:

        def made(name: str, **options: Any) -> None:
            folder = fake_distribution(name, **options)
            stack.enter_context(server_with(folder, tmp_path_factory.mktemp("server")))
            registry.update(discovery.scan())

        yield made


def test_a_package_that_keeps_its_contracts_is_told_in_a_line_for_each_part() -> None:
    result = argus("argus-example", "--kind", "loss", "--kind", "transform")
    assert result.exit_code == 0
    assert result.output == (
        "loss focal: 16 checks pass\n"
        "transform temperature_softmax: 12 checks pass\n"
        "\nargus-example 0.1.0: 2 of 2 components pass all checks of their kind\n"
    )


def test_every_fault_of_a_package_is_told(install: Callable[..., None]) -> None:
    modules = {"half_losses": GOOD, "bad_losses": BAD, "broken_losses": "import nowhere"}
    install("half", entry_points=ENTRY_POINTS, modules=modules)
    result = argus("Half")
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert "declaration: entry point 'typo' of group 'argus_core.losss' is ignored, " in lines[0]
    assert "did you mean 'loss'" in lines[0]
    assert "nn_module failing: 1 of 5 checks fail, 8 not run" in lines
    assert any("it must be built: it raised BuildError: " in line and "weights.bin" in line for line in lines)
    assert "nn_module missing: 1 of 2 checks fail, 11 not run" in lines
    assert any("it must be imported: nn_module 'missing' of half 1.0 cannot be" in line for line in lines)
    assert "loss half: 16 checks pass" in lines
    assert lines[-1] == "half 1.0: 1 of 4 components pass all checks of their kind"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import torch\nimport nowhere\n", "No module named 'nowhere' ({}:2); correct that, or install"),
        ("from deep import Net\n", "ZeroDivisionError: division by zero ({}:2); correct that, or upgrade"),
        ("class Net:\n    def\n", "SyntaxError: invalid syntax ({}:2); correct that, or upgrade"),
    ],
)
def test_a_part_that_cannot_be_imported_is_told_with_file_and_line(
    install: Callable[..., None], tmp_path: Path, source: str, told: str
) -> None:
    modules = {"broken": source, "deep": "def depth():\n    return 1 / 0\ndepth()\n"}
    install("half", entry_points={"nn_module": {"net": "broken:Net"}}, modules=modules)
    (file,) = tmp_path.rglob("deep/__init__.py" if "deep" in source else "broken/__init__.py")
    output = argus("half").output
    assert "it must be imported: nn_module 'net' of half 1.0 cannot be loaded from 'broken:Net': " in output
    assert told.format(file) in output


def test_json_has_every_check_with_what_came_of_it(install: Callable[..., None]) -> None:
    install("half", entry_points={"loss": {"rooted": "bad_losses:Rooted"}}, modules={"bad_losses": BAD})
    result = argus("half", "--json")
    assert result.exit_code == 1
    record = json.loads(result.output)
    assert (record["provider"], record["version"], record["problems"]) == ("half", "1.0", [])
    (part,) = record["parts"]
    assert (part["kind"], part["name"], part["holds"]) == ("loss", "rooted", False)
    (failure,) = [check for check in part["checks"] if check["state"] == "failed"]
    assert failure["check"] == "add up over parts of a batch"
    assert "separable=False" in failure["why"]


def test_a_part_that_hangs_is_told_and_the_next_is_checked(install: Callable[..., None]) -> None:
    targets = {"a_hanging": "hanging:Loss", "half": "half_losses:Half"}
    hanging = "import time\nwhile True:\n    time.sleep(0.1)\n"
    install("half", entry_points={"loss": targets}, modules={"hanging": hanging, "half_losses": GOOD})
    result = argus("half", "--time-limit", "5")
    assert result.exit_code == 1
    assert "it must finish: it did not end within 5 seconds" in result.output
    assert "loss half: 16 checks pass" in result.output


def test_a_part_that_there_are_no_checks_for_is_told_and_not_counted(install: Callable[..., None]) -> None:
    entry_points = {"loss": {"half": "half_losses:Half"}, "command": {"halve": "half_losses:halve"}}
    install("half", entry_points=entry_points, modules={"half_losses": GOOD})
    assert argus("half").output.splitlines() == [
        "loss half: 16 checks pass",
        "command halve: there are no checks for components of kind 'command'",
        "",
        "half 1.0: 1 of 1 components pass all checks of their kind",
    ]


def test_a_package_without_parts_is_told() -> None:
    result = argus("pytest")
    assert result.exit_code == 1
    assert "declares no components; declare them as entry points, " in result.stderr


@pytest.mark.parametrize(
    ("group", "told"),
    [
        ("argus_core.losses", "is ignored, there is no kind 'losses'; did you mean 'loss'?"),
        (
            "argus-core.loss",
            "group 'argus-core.loss': is not read by argus_core; did you mean 'argus_core.loss'?",
        ),
    ],
)
def test_a_package_whose_only_group_is_misspelled_is_told_the_right_one(
    install: Callable[..., None], group: str, told: str
) -> None:
    install("half", entry_points={group: {"half": "half_losses:Half"}}, modules={"half_losses": GOOD})
    result = argus("half")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: half 1.0 declares no valid components: entry point ")
    assert result.stderr.endswith(f"{told}; correct its pyproject.toml and install it again\n")


def test_a_group_that_nothing_reads_is_told_beside_parts_that_hold(install: Callable[..., None]) -> None:
    groups = {group: {"half": "half_losses:Half"} for group in ("loss", "argus.nn_module")}
    install("half", entry_points=groups, modules={"half_losses": GOOD})
    result = argus("half")
    assert result.exit_code == 1
    declaration, part, *_ = result.output.splitlines()
    assert declaration == (
        "declaration: entry point group 'argus.nn_module': is not read by argus_core; "
        "did you mean 'argus_core.nn_module'?"
    )
    assert part == "loss half: 16 checks pass"


def test_a_package_that_is_not_installed_is_told() -> None:
    result = argus("nowhere")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: the package 'nowhere' is not installed; install it in this environment\n"
    )


def test_a_kind_that_the_package_lacks_is_told_with_those_that_it_has() -> None:
    result = argus("argus-sklearn", "--kind", "loss")
    assert result.exit_code == 1
    assert (
        "argus-sklearn 0.1.0 has no component of kind loss; leave --kind out, or give one of dataset"
        in result.stderr
    )


def test_an_unknown_kind_is_told() -> None:
    assert "no kind 'los'; did you mean 'loss'?" in argus("argus-sklearn", "--kind", "los").stderr


@pytest.mark.parametrize("limit", ["0", "-1", "soon"])
def test_a_time_limit_without_meaning_is_a_usage_error(limit: str) -> None:
    assert argus("argus-sklearn", "--time-limit", limit).exit_code == 2


def test_the_import_name_of_the_core_leads_to_its_distribution() -> None:
    result = argus("argus_core")
    assert result.exit_code == 1
    assert (
        "the package 'argus_core' is not installed; its distribution is named 'argus-torch'" in result.output
    )
