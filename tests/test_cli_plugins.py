"""`argus plugins`: what is installed, who wins a name, and what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import argus_core
from argus_core.cli import main

pytestmark = pytest.mark.torchfree

FOCAL = {"loss": {"focal": "medseg.losses:Focal"}}


def argus(*args: str, **options: Any) -> Result:
    """Call the command; what it does not handle is raised here."""
    return CliRunner().invoke(main, ["plugins", *args], catch_exceptions=False, **options)


def one_spaced(line: str) -> str:
    return " ".join(line.split())


@pytest.mark.parametrize("command", ["list"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = argus(command, "--help")
    assert result.exit_code == 0
    assert f"\n    argus plugins {command}" in result.output.partition("Examples:")[2]


def test_unknown_command_is_a_usage_error_with_near_names() -> None:
    result = argus("lst")
    assert result.exit_code == 2
    assert "no command 'lst'; did you mean 'list'?" in result.stderr


# list.


def test_list_shows_the_parts_of_plugins_and_counts_the_built_in_ones(
    scan_registry: Any, fake_distribution: Any
) -> None:
    fake_distribution("argus-torch", "0.1.0", {"loss": {"MSELoss": "torch.nn:MSELoss"}})
    fake_distribution("medseg", "2.1", FOCAL)
    scan_registry()
    assert argus("list").output.splitlines() == [
        "provider  version  kind  name   state     note",
        "medseg    2.1      loss  focal  declared",
        "",
        "1 plugins, 1 components beside 1 built-in ones",
    ]


def test_list_without_plugins_says_so(scan_registry: Any) -> None:
    scan_registry()
    assert argus("list").output == "0 plugins, 0 components beside 0 built-in ones\n"


def test_list_shows_who_is_switched_off_and_by_what(
    scan_registry: Any, fake_distribution: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_distribution("medseg", "2.1", FOCAL)
    monkeypatch.setenv("ARGUS_PLUGINS", "other")
    scan_registry()
    line = one_spaced(argus("list").output.splitlines()[1])
    assert line == "medseg 2.1 loss focal blocked switched off by ARGUS_PLUGINS"


def test_list_shows_a_built_in_part_that_a_plugin_makes_ambiguous(
    scan_registry: Any, fake_distribution: Any
) -> None:
    for provider in ("argus-torch", "medseg"):
        fake_distribution(provider, "2.1", FOCAL)
    scan_registry()
    assert list(map(one_spaced, argus("list").output.splitlines()[1:3])) == [
        "argus-torch 2.1 loss focal declared ambiguous: medseg 2.1 too; pin one",
        "medseg 2.1 loss focal declared ambiguous: argus-torch 2.1 too; pin one",
    ]


def test_list_tells_how_many_declarations_were_left_out(scan_registry: Any, fake_distribution: Any) -> None:
    fake_distribution("medseg", "2.1", {"losss": {"focal": "medseg:Focal"}})
    scan_registry()
    last = argus("list").output.splitlines()[-1]
    assert last == "1 declarations left out: argus plugins doctor tells why"


def test_list_is_read_by_programs_as_json(scan_registry: Any, fake_distribution: Any) -> None:
    fake_distribution("medseg", "2.1", {**FOCAL, "losss": {"focal": "medseg:Focal"}})
    scan_registry()
    argus_core.register("loss", "mine", dict)
    record = json.loads(argus("list", "--json").output)
    component = {"kind": "loss", "target": "medseg.losses:Focal", "blocked_by": None, "note": None}
    mine = {**component, "name": "mine", "target": "builtins:dict", "state": "loaded"}
    assert record["providers"] == [
        {"provider": None, "version": None, "components": [mine]},
        {
            "provider": "medseg",
            "version": "2.1",
            "components": [{**component, "name": "focal", "state": "declared"}],
        },
    ]
    assert [problem["origin"] for problem in record["problems"]] == ["medseg 2.1"]


@pytest.mark.parametrize("command", ["list", "plugins list", "plugins list --json"])
def test_a_plugin_that_imports_torch_is_not_imported_by_listing(
    fake_distribution: Any, tmp_path: Path, command: str
) -> None:
    marker = tmp_path / "imported"
    source = f"open({str(marker)!r}, 'w').close()\nimport torch\nclass Focal: ..."
    folder = fake_distribution("medseg-of-this-test", "2.1", FOCAL, {"medseg.losses": source})
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "from argus_core.cli import main\n"
        f"main({command.split()!r}, standalone_mode=False)\n"
        "unwanted = {'torch', 'numpy', 'medseg'} & set(sys.modules)\n"
        "assert not unwanted, unwanted\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "medseg-of-this-test" in done.stdout
    assert not marker.exists()
