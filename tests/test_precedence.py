"""Who has a short name, told by the rules that the registry goes by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import argus_core
from argus_core.precedence import candidates

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
    shadowed = "shadowed by what this process has registered"
    assert notes() == {None: "", "argus-torch": shadowed, "medseg": shadowed, "other": shadowed}


def test_a_provider_that_is_switched_off_is_in_nobodys_way(
    three: None, scan_registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARGUS_DISABLE_PLUGINS", "medseg,other")
    scan_registry()
    off = "switched off by ARGUS_DISABLE_PLUGINS"
    assert notes() == {"argus-torch": "", "medseg": off, "other": off}
