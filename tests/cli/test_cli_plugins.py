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


@pytest.mark.parametrize("command", ["list", "why", "doctor"])
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
        "1 plugin with 1 component, and 1 built-in component",
    ]


def test_list_without_plugins_says_so(scan_registry: Any) -> None:
    scan_registry()
    assert argus("list").output == "0 plugins with 0 components, and 0 built-in components\n"


def test_list_shows_who_is_switched_off_and_by_what(
    scan_registry: Any, fake_distribution: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_distribution("medseg", "2.1", FOCAL)
    monkeypatch.setenv("ARGUS_PLUGINS", "other")
    scan_registry()
    line = one_spaced(argus("list").output.splitlines()[1])
    assert line == "medseg 2.1 loss focal blocked switched off by ARGUS_PLUGINS"


def test_list_tells_what_the_environment_names_in_vain(
    scan_registry: Any, fake_distribution: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_distribution("medseg", "2.1", FOCAL)
    monkeypatch.setenv("ARGUS_DISABLE_PLUGINS", "metseg")
    scan_registry()
    note = "ARGUS_DISABLE_PLUGINS has 'metseg', which is not installed; did you mean 'medseg'?"
    assert argus("list").output.splitlines()[-1] == f"note: {note}"
    assert json.loads(argus("list", "--json").output)["notes"] == [note]


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
    assert last == "1 declaration left out; argus plugins doctor shows why"


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


# why.


def test_why_shows_the_winner_the_rule_the_place_and_the_losers(
    scan_registry: Any, fake_distribution: Any
) -> None:
    Path("pyproject.toml").write_text('[tool.argus.prefer]\n"loss.focal" = "medseg"\n')
    folder = fake_distribution("medseg", "2.1", FOCAL, {"medseg.losses": "1 / 0\nclass Focal: ..."})
    fake_distribution("other", "1.0", {"loss": {"focal": "absent:Focal"}})
    scan_registry()
    result = argus("why", "focal")
    path, code = Path("pyproject.toml").absolute(), folder / "medseg/losses/__init__.py"
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "loss focal",
        f"  winner: medseg.losses:Focal, declared by medseg 2.1, defined in {code}:2",
        f"  reason: the name is pinned to medseg in {path}:2",
        "  loser: absent:Focal, declared by other 1.0, its definition cannot be found without an import",
        f"    reason: shadowed by the pin to medseg in {path}",
    ]


def test_why_answers_for_every_kind_or_for_one(scan_registry: Any, fake_distribution: Any) -> None:
    fake_distribution("medseg", "2.1", {"loss": {"dice": "m:A"}, "metric": {"dice": "m:B"}})
    scan_registry()
    assert [line for line in argus("why", "dice").output.splitlines() if line[:1].isalpha()] == [
        "loss dice",
        "metric dice",
    ]
    assert argus("why", "metric", "dice").output.startswith(
        "metric dice\n  winner: m:B, declared by medseg 2.1, "
    )


def test_why_is_read_by_programs_as_json(scan_registry: Any, fake_distribution: Any) -> None:
    folder = fake_distribution("medseg", "2.1", FOCAL, {"medseg.losses": "class Focal: ..."})
    scan_registry()
    assert json.loads(argus("why", "focal", "--json").output) == [
        {
            "kind": "loss",
            "name": "focal",
            "winner": {
                "provider": "medseg",
                "version": "2.1",
                "target": "medseg.losses:Focal",
                "state": "declared",
                "file": str(folder / "medseg/losses/__init__.py"),
                "line": 1,
                "reason": "only this package has the name",
            },
            "error": None,
            "losers": [],
        }
    ]


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_why_exits_with_1_if_nobody_has_the_name(
    scan_registry: Any, fake_distribution: Any, options: tuple[str, ...]
) -> None:
    fake_distribution("medseg", "2.1", FOCAL)
    fake_distribution("other", "1.0", FOCAL)
    scan_registry()
    result = argus("why", "focal", *options)
    assert result.exit_code == 1
    assert "loss 'focal' is provided by other 1.0 and medseg 2.1; write" in result.output


def test_why_of_an_unknown_name_is_an_error_with_near_names(
    scan_registry: Any, fake_distribution: Any
) -> None:
    fake_distribution("medseg", "2.1", FOCAL)
    scan_registry()
    result = argus("why", "focl")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: no component named 'focl'; did you mean 'focal'? (1 known: argus list)\n"
    assert "error: no loss named 'focl'; did you mean 'focal'?" in argus("why", "loss", "focl").stderr


@pytest.mark.parametrize("names", [(), ("a", "b", "c")])
def test_why_takes_a_name_and_perhaps_a_kind(names: tuple[str, ...]) -> None:
    assert argus("why", *names).exit_code == 2


# doctor.


@pytest.fixture
def doctor(fake_distribution: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install two plugins, one of them bad, and examine what is asked for."""
    good = {"loss": {"good_of_this_test": "goodseg:Focal"}}
    bad = {"loss": {"bad_of_this_test": "badseg:Focal"}}
    fake_distribution("goodseg", "2.1", good, {"goodseg": "class Focal: ..."})
    fake_distribution("badseg", "1.0", bad, {"badseg": "class Dice: ..."})
    return lambda *args: argus("doctor", *args)


BAD = (
    "badseg 1.0\n"
    "  loss 'bad_of_this_test': module 'badseg' has no attribute 'Focal'\n"
    '    fix: correct bad_of_this_test = "badseg:Focal" in the pyproject.toml of badseg and install it '
    "again; if it is not yours, upgrade or uninstall badseg\n"
)


def test_doctor_exits_with_0_if_all_is_well(doctor: Any) -> None:
    result = doctor("--provider", "GoodSeg")
    assert (result.exit_code, result.output) == (0, "no faults; 1 component of 1 provider loaded\n")


def test_doctor_shows_each_fault_with_its_fix_and_exits_with_1(doctor: Any) -> None:
    result = doctor("--provider", "goodseg", "--provider", "badseg")
    assert result.exit_code == 1
    assert result.output == f"{BAD}1 fault; 2 components of 2 providers loaded\n"


def test_doctor_shows_faults_that_are_alike_once(fake_distribution: Any) -> None:
    modules = {"manyseg": "raise RuntimeError('older')"}
    fake_distribution("manyseg", "1.0", {"loss": {f"loss{i}": f"manyseg:L{i}" for i in range(5)}}, modules)
    result = argus("doctor", "--provider", "manyseg")
    assert "\n  loss 'loss0', loss 'loss1', loss 'loss2' and 2 more: cannot be imported: " in result.output
    assert result.output.count("fix:") == 1
    assert result.output.endswith("5 faults; 5 components of 1 provider loaded\n")


def test_doctor_shows_what_is_switched_off(doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARGUS_DISABLE_PLUGINS", "badseg")
    result = doctor("--provider", "badseg")
    assert result.exit_code == 0
    note = "badseg 1.0 is switched off by ARGUS_DISABLE_PLUGINS; 1 of its components were not loaded"
    assert result.output == f"note: {note}\nno faults; 0 components of 0 providers loaded\n"


def test_doctor_writes_what_a_plugin_says_in_letters_that_nobody_can_encode(
    doctor: Any, fake_distribution: Any
) -> None:
    source = r"raise ValueError('\ud800 is half a letter')"
    fake_distribution("oddseg", "1.0", {"loss": {"odd": "oddseg:Focal"}}, {"oddseg": source})
    result = doctor("--provider", "oddseg")
    assert result.exit_code == 1
    assert r"cannot be imported: ValueError: \ud800 is half a letter (" in result.output


def test_doctor_is_read_by_programs_as_json(doctor: Any) -> None:
    result = doctor("--provider", "badseg", "--json")
    record = json.loads(result.output)
    assert result.exit_code == 1
    (fault,) = record["faults"]
    assert (fault["sort"], fault["providers"], fault["subject"]) == (
        "entry point",
        ["badseg 1.0"],
        "loss 'bad_of_this_test'",
    )
    assert (record["notes"], record["providers"], record["components"]) == ([], 1, 1)


WRONG = [
    (["--provider", "goodsegg"], "the package 'goodsegg' is not installed; did you mean 'goodseg'?"),
    (["--provider", "q"], "the package 'q' is not installed (see: argus plugins list)"),
    (["--timeout", "0"], "0 is not in the range 1<=x<=86400"),
    (["--timeout", "nan"], "'nan' is not a valid integer range"),
    (["a", "b"], "Got unexpected extra argument"),
    (["best.safetensors", "--provider", "goodseg"], "--provider and --timeout are for plugins, not for a"),
]


@pytest.mark.parametrize(("args", "message"), WRONG)
def test_doctor_called_wrongly_exits_with_2(doctor: Any, args: list[str], message: str) -> None:
    result = doctor(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_doctor_is_not_stopped_by_pins_that_cannot_be_read(doctor: Any) -> None:
    Path("pyproject.toml").write_text("[tool.argus.prefer", "utf-8")
    assert doctor("--provider", "goodseg").exit_code == 1
