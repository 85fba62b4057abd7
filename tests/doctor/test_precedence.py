"""Who has a short name, told by the rules that the registry goes by."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import argus_core
from argus_core.doctor.precedence import candidates, kinds_of, verdict

pytestmark = pytest.mark.torchfree


def notes() -> dict[str | None, str]:
    return {candidate.component.provider: candidate.note for candidate in candidates()}


@pytest.fixture
def three(fake_distribution: Any) -> None:
    for name in ("argus-torch", "medseg", "other"):
        fake_distribution(name, "2.1", {"loss": {"focal": "collections:Counter"}})


def test_providers_of_one_name_without_a_pin_are_ambiguous(three: None, scan_registry: Any) -> None:
    scan_registry()
    assert notes() == {
        "argus-torch": "ambiguous: medseg 2.1 and other 2.1 too; pin one",
        "medseg": "ambiguous: argus-torch 2.1 and other 2.1 too; pin one",
        "other": "ambiguous: argus-torch 2.1 and medseg 2.1 too; pin one",
    }


def test_a_pin_shadows_the_other_providers(three: None, scan_registry: Any) -> None:
    Path("pyproject.toml").write_text('[tool.argus.prefer]\n"loss.focal" = "medseg"\n')
    scan_registry()
    shadowed = f"shadowed by the pin to medseg in {Path('pyproject.toml').absolute()}"
    assert notes() == {"argus-torch": shadowed, "medseg": "", "other": shadowed}


def test_what_is_registered_in_process_shadows_all(three: None, scan_registry: Any) -> None:
    scan_registry()
    argus_core.register("loss", "focal", dict, override=True)
    shadowed = "shadowed by a registration in this process"
    assert notes() == {None: "", "argus-torch": shadowed, "medseg": shadowed, "other": shadowed}


def test_a_provider_that_is_switched_off_is_in_nobodys_way(
    three: None, scan_registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARGUS_DISABLE_PLUGINS", "medseg,other")
    scan_registry()
    off = "switched off by ARGUS_DISABLE_PLUGINS"
    assert notes() == {"argus-torch": "", "medseg": off, "other": off}


def test_a_verdict_names_the_winner_the_rule_and_the_losers(three: None, scan_registry: Any) -> None:
    Path("pyproject.toml").write_text('[tool.argus.prefer]\n\n"loss.focal" = "medseg"\n')
    scan_registry()
    found = verdict("loss", "focal")
    assert found.winner is argus_core.resolve("loss", "focal")
    path = Path("pyproject.toml").absolute()
    assert found.reason == f"the name is pinned to medseg in {path}:3"
    assert {(loser.component.provider, loser.note) for loser in found.losers} == {
        ("argus-torch", f"shadowed by the pin to medseg in {path}"),
        ("other", f"shadowed by the pin to medseg in {path}"),
    }


def test_a_qualified_name_wins_by_itself(three: None, scan_registry: Any) -> None:
    scan_registry()
    found = verdict("loss", "other/focal")
    assert (found.winner, found.reason) == (
        argus_core.resolve("loss", "other/focal"),
        "the name contains the package",
    )
    assert {loser.note for loser in found.losers} == {"'other/focal' asks for other"}


def test_nobody_wins_an_ambiguous_name(three: None, scan_registry: Any) -> None:
    scan_registry()
    found = verdict("loss", "focal")
    assert found.winner is None
    assert found.reason.startswith(
        "loss 'focal' is provided by other 2.1 and medseg 2.1 and argus-torch 2.1; "
    )
    assert len(found.losers) == 3


def test_registration_in_process_wins(three: None, scan_registry: Any) -> None:
    scan_registry()
    argus_core.register("loss", "focal", dict, override=True)
    assert verdict("loss", "focal").reason == "it is registered in this process, which comes first"


@pytest.mark.parametrize(
    ("disabled", "reason"),
    [("medseg,other", "it is built in, and no plugin has this name"), ("other", "")],
)
def test_providers_that_are_switched_off_lose(
    three: None, scan_registry: Any, monkeypatch: pytest.MonkeyPatch, disabled: str, reason: str
) -> None:
    monkeypatch.setenv("ARGUS_DISABLE_PLUGINS", disabled)
    scan_registry()
    found = verdict("loss", "focal")
    assert not reason or found.reason == reason
    assert ("other", "switched off by ARGUS_DISABLE_PLUGINS") in {
        (loser.component.provider, loser.note) for loser in found.losers
    }


def test_the_only_provider_wins_unless_it_is_switched_off(
    fake_distribution: Any, scan_registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_distribution("medseg", "2.1", {"loss": {"focal": "medseg:Focal"}})
    scan_registry()
    assert verdict("loss", "focal").reason == "only this package has the name"
    monkeypatch.setenv("ARGUS_PLUGINS", "")
    scan_registry()
    found = verdict("loss", "focal")
    assert found.winner is None
    assert found.reason.startswith("loss 'focal' of medseg 2.1 is switched off by ARGUS_PLUGINS; ")


def test_a_pin_that_leads_nowhere_lets_nobody_win(three: None, scan_registry: Any) -> None:
    Path("pyproject.toml").write_text('[tool.argus.prefer]\n"loss.focal" = "absent"\n')
    scan_registry()
    found = verdict("loss", "focal")
    assert found.winner is None
    assert "pins loss 'focal' to 'absent', which is not installed" in found.reason


def test_kinds_of_a_name_are_found_in_order(fake_distribution: Any, scan_registry: Any) -> None:
    declared = {"metric": {"dice": "medseg:A"}, "loss": {"dice": "medseg:B"}, "removed": {"step.dice": "sam"}}
    fake_distribution("medseg", "2.1", declared)
    scan_registry()
    assert kinds_of("dice") == kinds_of("medseg/dice") == ["loss", "step", "metric"]


UNKNOWN = [
    ("dcie", "no component named 'dcie'; did you mean 'dice'? (1 known: argus list)"),
    ("medseg.losses:dice", "no component named 'medseg.losses:dice'; did you mean 'dice'? "),
    ("medsegg/dice", "no component named 'medsegg/dice'; did you mean 'medseg/dice'? "),
    ("absent-of-this-test/q", "'absent-of-this-test/q'; the package 'absent-of-this-test' is not installed "),
    ("loss", "'loss' is a kind; give the name of a component of it (argus list loss)"),
    ("zzz", "no component named 'zzz' (1 known: argus list)"),
]


@pytest.mark.parametrize(("name", "message"), UNKNOWN)
def test_a_name_of_no_kind_is_told_with_near_ones(
    fake_distribution: Any, scan_registry: Any, name: str, message: str
) -> None:
    fake_distribution("medseg", "2.1", {"loss": {"dice": "medseg:B"}})
    scan_registry()
    with pytest.raises(argus_core.UnknownNameError, match=re.escape(message)):
        kinds_of(name)


def test_a_removed_name_is_told_as_such(fake_distribution: Any, scan_registry: Any) -> None:
    fake_distribution("medseg", "2.1", {"removed": {"step.dice": "sam"}})
    scan_registry()
    with pytest.raises(argus_core.UnknownNameError, match="step 'dice' was removed from medseg 2.1"):
        verdict(kinds_of("dice")[0], "dice")
