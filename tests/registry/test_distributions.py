"""Installed metadata is read once a distribution, and what cannot be read stands in nobody's way."""

from __future__ import annotations

import importlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from argus_core.registry.distributions import Installed, Problem, installed, notice_new, version_of
from argus_core.registry.metadata import Entry, all_metadata, normalised

if sys.version_info >= (3, 12):
    from importlib import metadata
else:
    import importlib_metadata as metadata

pytestmark = pytest.mark.torchfree


def found(path: list[str]) -> list[Installed | Problem]:
    return list(installed("argus_core.", path))


def problem(path: list[str]) -> Problem:
    (only,) = found(path)
    assert isinstance(only, Problem)
    return only


@pytest.mark.parametrize("spelling", ["Med_Seg", "med.seg", "MED--SEG", "med-seg"])
def test_a_name_is_normalised_as_pep_503_says(spelling: str) -> None:
    assert normalised(spelling) == "med-seg"


def test_a_distribution_is_read_with_its_entry_points(fake_distribution) -> None:
    fake_distribution("Med_Seg", "2.1", {"loss": {"focal": "medseg.losses:Focal"}})
    entry = Entry("argus_core.loss", "focal", "medseg.losses:Focal")
    assert found(fake_distribution.path) == [Installed("med-seg", "2.1", (entry,))]


def test_a_distribution_with_other_entry_points_only_is_left_out(fake_distribution) -> None:
    folder = fake_distribution("other")
    (folder / "other-1.0.dist-info/entry_points.txt").write_text("# not argus_core.loss\n[other]\na = b:c\n")
    assert found(fake_distribution.path) == []


def test_the_first_copy_on_the_path_hides_the_others(fake_distribution) -> None:
    fake_distribution("med-seg", "1.0", {"loss": {"old": "medseg:Old"}})
    fake_distribution("Med.Seg", "2.0", {"loss": {"new": "medseg:New"}})
    (only,) = found(fake_distribution.path)
    assert isinstance(only, Installed)
    assert only.version == "2.0"


def test_a_first_copy_without_components_hides_the_others_too(fake_distribution) -> None:
    fake_distribution("medseg", "1.0", {"loss": {"old": "medseg:Old"}})
    fake_distribution("medseg", "2.0")
    assert found(fake_distribution.path) == []


def test_comments_blank_lines_and_spaces_are_not_entry_points(fake_distribution) -> None:
    folder = fake_distribution("medseg")
    text = "# a comment\n; another\n\n[ argus_core.loss ]\n  focal=medseg : Focal  \n"
    (folder / "medseg-1.0.dist-info/entry_points.txt").write_text(text)
    (only,) = found(fake_distribution.path)
    assert isinstance(only, Installed)
    assert only.entries == (Entry("argus_core.loss", "focal", "medseg : Focal"),)


def test_entry_points_that_are_not_text_are_a_problem(fake_distribution) -> None:
    folder = fake_distribution("medseg")
    (folder / "medseg-1.0.dist-info/entry_points.txt").write_bytes(b"[argus_core.loss]\n\xff = a:b")
    assert str(problem(fake_distribution.path)) == (
        "medseg: its metadata cannot be read, entry_points.txt is not UTF-8 at byte 18"
    )


@pytest.mark.parametrize("text", ["", "Name: medseg\n", "Version: 1.0\n"])
def test_metadata_without_name_or_version_is_a_problem(fake_distribution, text: str) -> None:
    folder = fake_distribution("medseg", entry_points={"loss": {"focal": "medseg:Focal"}})
    (folder / "medseg-1.0.dist-info/METADATA").write_text(text)
    assert "METADATA lacks its Name or Version" in problem(fake_distribution.path).reason


def test_an_egg_info_is_read_too(fake_distribution, tmp_path: Path) -> None:
    info = tmp_path / "eggs/medseg.egg-info"
    info.mkdir(parents=True)
    (info / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: medseg\nVersion: 3.0\n")
    (info / "entry_points.txt").write_text("[argus_core.loss]\nfocal = medseg:Focal\n")
    (only,) = found([str(tmp_path / "eggs")])
    assert isinstance(only, Installed)
    assert (only.name, only.version) == ("medseg", "3.0")


def test_the_version_of_an_installed_distribution_is_known(fake_distribution) -> None:
    fake_distribution("medseg", "2.1")
    assert version_of("medseg") == "2.1"


@pytest.mark.parametrize("name", ["no-such-distribution", ""])
def test_what_is_not_installed_has_no_version(name: str) -> None:
    assert version_of(name) is None


def test_an_editable_install_becomes_importable_in_a_running_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, source = tmp_path / "site-packages", tmp_path / "source"
    site.mkdir()
    source.mkdir()
    monkeypatch.setattr("site.getsitepackages", lambda: [str(site), str(tmp_path / "not-on-the-path")])
    monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
    lines = ["# a comment", "", "import argus_hook_that_must_not_run", str(source), str(tmp_path / "absent")]
    (site / "editable.pth").write_text("\n".join(lines))
    (site / "argus_hook_that_must_not_run.py").write_text("1 / 0")
    (source / "argus_editable_example.py").write_text("ANSWER = 42\n")
    before = set(sys.path)
    notice_new()
    notice_new()
    assert importlib.import_module("argus_editable_example").ANSWER == 42
    assert set(sys.path) - before == {str(source)}
    assert sys.path.count(str(source)) == 1
    del sys.modules["argus_editable_example"]


def test_what_importlib_metadata_finds_is_found_in_the_same_order() -> None:
    expected = [distribution._normalized_name for distribution in metadata.distributions()]  # type: ignore[attr-defined]
    assert [each.key.replace("-", "_") for each in all_metadata()] == expected


@pytest.mark.parametrize("path", [".", "", "absent", "a\0b", "pyproject.toml"])
def test_a_place_without_distributions_is_passed_over(fake_distribution, path: str) -> None:
    assert found([path]) == []


def test_paths_are_taken_as_strings_are(fake_distribution) -> None:
    folder = fake_distribution("medseg", entry_points={"loss": {"focal": "medseg:Focal"}})
    assert len(found([Path(folder), bytes(folder)])) == 1


def test_a_distribution_in_an_archive_is_read(tmp_path: Path) -> None:
    archive = tmp_path / "medseg.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("medseg-3.0.dist-info/METADATA", "Name: medseg\nVersion: 3.0\n")
        file.writestr("medseg-3.0.dist-info/entry_points.txt", "[argus_core.loss]\nfocal = medseg:Focal\n")
    entry = Entry("argus_core.loss", "focal", "medseg:Focal")
    assert found([str(archive)]) == [Installed("medseg", "3.0", (entry,))]


def test_an_egg_is_read(tmp_path: Path) -> None:
    info = tmp_path / "medseg-3.0-py3.11.egg/EGG-INFO"
    info.mkdir(parents=True)
    (info / "PKG-INFO").write_text("Name: medseg\nVersion: 3.0\n")
    (info / "entry_points.txt").write_text("[argus_core.loss]\nfocal = medseg:Focal\n")
    (only,) = found([str(info.parent)])
    assert isinstance(only, Installed)
    assert (only.name, only.version) == ("medseg", "3.0")


def test_what_an_interrupted_uninstall_left_is_passed_over(fake_distribution) -> None:
    folder = fake_distribution("medseg", entry_points={"loss": {"focal": "medseg:Focal"}})
    (folder / "medseg-1.0.dist-info").rename(folder / "~edseg-1.0.dist-info")
    assert found(fake_distribution.path) == []


def test_a_packagers_own_finder_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "medseg_of_this_test-3.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: medseg-of-this-test\nVersion: 3.0\n")
    (info / "entry_points.txt").write_text("[argus_core.loss]\nfocal = medseg:Focal\n")

    class Finder:
        @staticmethod
        def find_distributions(*_: object) -> list[object]:
            return [metadata.PathDistribution(info)]

        @staticmethod
        def find_spec(*_: object) -> None: ...

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    names = [each.name for each in installed("argus_core.") if isinstance(each, Installed)]
    assert names.count("medseg-of-this-test") == 1


def test_a_long_description_is_no_part_of_the_header(fake_distribution) -> None:
    folder = fake_distribution("medseg", entry_points={"loss": {"focal": "medseg:Focal"}})
    long = "Summary: " + "word " * 1000
    text = f"Metadata-Version: 2.1\n{long}\nName: medseg\nVersion: 2.5\n\nName: other\nVersion: 9\n"
    (folder / "medseg-1.0.dist-info/METADATA").write_text(text)
    (only,) = found(fake_distribution.path)
    assert isinstance(only, Installed)
    assert (only.name, only.version) == ("medseg", "2.5")


def test_scanning_does_not_import_importlib_metadata() -> None:
    code = (
        "import sys\nfrom argus_core.registry import registry\nregistry.components()\n"
        "assert not {'importlib.metadata', 'importlib_metadata'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
