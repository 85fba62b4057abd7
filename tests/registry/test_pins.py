"""A project's pins are read from the nearest pyproject.toml, and a wrong table is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from argus_core.errors import ConfigError
from argus_core.registry.pins import NO_PINS, line_of, read_pins

pytestmark = pytest.mark.torchfree


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[tool.argus.prefer]\n"loss.focal" = "Med_Seg"\n')
    return tmp_path


def test_a_pin_is_read_with_its_provider_normalised(project: Path) -> None:
    pins = read_pins(project)
    assert pins.providers == {("loss", "focal"): "med-seg"}
    assert pins.path == project / "pyproject.toml"


def test_the_nearest_file_above_is_the_one(project: Path) -> None:
    folder = project / "a/b"
    folder.mkdir(parents=True)
    assert read_pins(folder).providers == {("loss", "focal"): "med-seg"}
    (project / "a/pyproject.toml").touch()
    assert read_pins(folder).providers == {}


def test_the_current_folder_is_where_the_search_begins(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    assert read_pins().path == project / "pyproject.toml"


def test_without_a_file_there_are_no_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "argus_core.registry.project._read", lambda path: None
    )  # also above the temporary folder
    assert read_pins(tmp_path) is NO_PINS


@pytest.mark.parametrize(
    "text",
    [
        '[tool.argus.prefer]\nloss.focal = "medseg"\n',
        '[tool.argus]\nprefer = { "loss.focal" = "medseg" }\n',
        '[tool.argus.prefer.loss]\nfocal = "medseg"\n',
    ],
)
def test_other_toml_for_the_same_means_the_same(project: Path, text: str) -> None:
    (project / "pyproject.toml").write_text(text)
    assert read_pins(project).providers == {("loss", "focal"): "medseg"}


def test_a_name_may_hold_dots(project: Path) -> None:
    (project / "pyproject.toml").write_text('[tool.argus.prefer]\n"nn_module.net.v2" = "medseg"\n')
    assert read_pins(project).providers == {("nn_module", "net.v2"): "medseg"}


@pytest.mark.parametrize(
    "text", ["", "[tool.other]\n", "argus prefer is not in [a", '[tool.argus]\nother = "prefer"\n']
)
def test_a_file_without_the_table_has_no_pins_or_is_refused(project: Path, text: str) -> None:
    (project / "pyproject.toml").write_text(text)
    if "[a" in text:
        with pytest.raises(ConfigError, match=r"pyproject.toml is not TOML: .*; correct it"):
            read_pins(project)
    else:
        assert read_pins(project).providers == {}


def test_a_broken_file_without_pins_is_none_of_our_business(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool")
    assert read_pins(project).providers == {}


def test_a_file_that_is_not_utf_8_is_refused(project: Path) -> None:
    (project / "pyproject.toml").write_bytes(b"# argus prefer \xff")
    with pytest.raises(ConfigError, match="is not TOML: 'utf-8' codec"):
        read_pins(project)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('"focal" = "medseg"', "holds 'focal' = 'medseg'; write \"<kind>.<name>\" = \"<distribution>\""),
        ('"loss.focal" = 3', "holds 'loss.focal' = 3; write"),
        ('"los.focal" = "medseg"', r"pins 'los.focal', but there is no kind 'los'; did you mean 'loss'\?"),
    ],
)
def test_a_wrong_pin_is_refused(project: Path, line: str, message: str) -> None:
    (project / "pyproject.toml").write_text(f"[tool.argus.prefer]\n{line}\n")
    with pytest.raises(ConfigError, match=rf"^\[tool.argus.prefer\] in .*pyproject.toml {message}"):
        read_pins(project)


def test_a_table_that_is_none_is_refused(project: Path) -> None:
    (project / "pyproject.toml").write_text('[tool.argus]\nprefer = "medseg"\n')
    with pytest.raises(ConfigError, match="holds '' = 'medseg'"):
        read_pins(project)


LINES = [
    ('[tool.argus.prefer]\n# loss.focal\n"loss.focal" = "medseg"\n', 3),
    ('[tool.argus.prefer]\n"loss.dice" = "other"\nloss.focal = "medseg" # loss.focal\n', 3),
    ('[tool.argus.prefer.loss]\nfocal = "medseg"\n', None),
    ('[tool]\nargus.prefer = { "loss.focal" = "medseg" }\n', None),
    ('[tool.x]\na = """\n"loss.focal" = "no"\n"""\n[tool.argus.prefer]\n"loss.focal" = "medseg"\n', 6),
    ('[tool.argus.prefer]\n"loss.f\\u006Fcal" = "medseg"\n', None),
]


@pytest.mark.parametrize(("text", "line"), LINES)
def test_the_line_of_a_pin_is_found(tmp_path: Path, text: str, line: int | None) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    pins = read_pins(tmp_path)
    assert pins.providers["loss", "focal"] == "medseg"
    assert line_of(pins, "loss", "focal") == line


def test_no_pins_have_no_line() -> None:
    assert line_of(NO_PINS, "loss", "focal") is None
