"""Thousands of packages, entry points and pins: what is told of them is bounded, and each is read once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from argus_core.doctor.declarations import ambiguous_names, copies, declarations, pins
from argus_core.doctor.precedence import candidates, verdict
from argus_core.errors import AmbiguousNameError
from argus_core.registry.discovery import Index, scan
from argus_core.registry.distributions import BUILTIN, version_of, versions_of

pytestmark = pytest.mark.torchfree

MANY = 300
FOCAL = "[argus_core.loss]\nfocal = collections:Counter\n"


@pytest.fixture
def install(fake_distribution: Any, tmp_path: Path) -> Any:
    """Install a package, named as often as is wanted; all lie in the one folder that is returned."""
    site = tmp_path / "many"
    site.mkdir()

    def put(folder: str, entry_points: str) -> str:
        name, _, version = folder.rpartition("-")
        info = site / f"{folder}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(entry_points)
        return str(site)

    return put


def test_the_versions_of_several_packages_are_read_at_once(
    fake_distribution: Any, listings: list[None]
) -> None:
    fake_distribution("medseg", "2.1")
    names = ["Med.Seg", "medseg", "", BUILTIN]
    assert versions_of(names) == {"Med.Seg": None, "medseg": "2.1", "": None, BUILTIN: version_of(BUILTIN)}
    assert len(listings) == 2


def test_of_many_providers_of_a_name_some_are_told(install: Any, scan_registry: Any) -> None:
    for index in range(MANY):
        path = install(f"package{index}-1.0", FOCAL)
    registry = scan_registry()
    registry.update(scan([path]))
    notes = {candidate.note for candidate in candidates()}
    assert all(f" and {MANY - 4} more too; pin one" in note and len(note) < 100 for note in notes)
    (fault,) = ambiguous_names(registry.components(), registry.index)
    assert len(fault.providers) == MANY
    assert len(fault.problem) + len(fault.fix) < 2000
    with pytest.raises(AmbiguousNameError) as caught:
        registry.resolve("loss", "focal")
    assert len(str(caught.value)) < 2000
    assert len(verdict("loss", "focal").losers) == MANY


def test_copies_that_are_many_are_told_in_a_sentence(install: Any) -> None:
    for index in range(MANY):
        path = install(f"medseg-1.{index}", FOCAL)
    (fault,) = copies([path])
    assert f"{MANY - 20} more; the first is used" in fault.problem
    assert fault.fix.startswith("delete ")


def test_whose_version_counts_is_read_once_however_many_take_the_name(
    install: Any, listings: list[None]
) -> None:
    for index in range(MANY):
        path = install(f"argus_torch-1.{index}", FOCAL)
    listings.clear()
    assert len([*copies([path])]) == MANY - 1
    assert len(listings) == 1


def test_no_hint_is_looked_for_where_kinds_are_many(install: Any) -> None:
    install("few-1.0", "[argus_core.los]\na = b:c\n")
    path = install("many-1.0", "".join(f"[argus_core.los{n}]\na = b:c\n" for n in range(MANY)))
    problems = scan([path]).problems
    assert len(problems) == MANY + 1
    assert [each.origin for each in problems if "did you mean 'loss'?" in each.reason] == ["few 1.0"]


def test_of_many_entry_points_that_are_left_out_some_are_told(install: Any) -> None:
    path = install("many-1.0", "".join(f"[argus_core.los{n}]\na = b:c\n" for n in range(MANY)))
    *told, last = declarations([path])
    assert len(told) == 100
    assert (last.subject, last.problem) == ("200 more of its entry points", "are ignored too")


def test_of_many_pins_that_lead_nowhere_some_are_told(fake_distribution: Any, listings: list[None]) -> None:
    lines = "".join(f'"loss.focal{index}" = "medseg"\n' for index in range(MANY))
    Path("pyproject.toml").write_text(f"[tool.argus.prefer]\n{lines}")
    index = scan(fake_distribution.path)
    assert isinstance(index, Index)
    listings.clear()
    *told, last = pins(index)
    assert len(told) == len(listings) == 20
    assert (last.subject.partition(" in ")[0], last.problem) == ("other pins", "have not been checked")
