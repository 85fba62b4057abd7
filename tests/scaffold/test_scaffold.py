"""A new package is complete, or it is not there; names that would not work are refused."""

from __future__ import annotations

import ast
import json
import re
import shlex
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from argus_core.cli import main
from argus_core.errors import ArgusError, ConflictError, SpecError, UnknownNameError
from argus_core.registry.component import KINDS
from argus_core.registry.distributions import version_of
from argus_core.scaffold import LICENSES, MADE_KINDS, make_package, package
from argus_core.scaffold.naming import check_distribution_name, import_name, prefix

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = pytest.mark.torchfree


def argus(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["new-plugin", *arguments], catch_exceptions=False)


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    return make_package("argus-medseg", MADE_KINDS, tmp_path).folder


def test_there_is_a_part_of_every_kind_that_a_package_can_begin_with() -> None:
    assert set(KINDS) - set(MADE_KINDS) == {"model", "command"}


def test_a_package_has_all_that_it_needs(tmp_path: Path) -> None:
    made = make_package("medseg", directory=tmp_path)
    assert [path.as_posix() for path in made.files] == [
        ".github/workflows/tests.yml",
        ".gitignore",
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "src/medseg/__init__.py",
        "src/medseg/networks.py",
        "src/medseg/py.typed",
        "tests/test_contract.py",
        "tests/test_networks.py",
        "tox.ini",
    ]
    written = {path.relative_to(made.folder) for path in made.folder.rglob("*") if path.is_file()}
    assert written == set(made.files)
    assert made.parts == (("nn_module", "medseg_net"),)


def test_entry_points_lead_to_what_the_modules_define(everything: Path) -> None:
    project = tomllib.loads((everything / "pyproject.toml").read_text("utf-8"))["project"]
    assert {f"argus_core.{kind}" for kind in MADE_KINDS} == set(project["entry-points"])
    for targets in project["entry-points"].values():
        (target,) = targets.values()
        module, _, factory = target.partition(":")
        source = (everything / "src" / f"{module.replace('.', '/')}.py").read_text("utf-8")
        defined = {
            node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef | ast.FunctionDef)
        }
        assert factory in defined


def test_nothing_of_a_template_is_left(everything: Path) -> None:
    for file in (path for path in everything.rglob("*") if path.is_file()):
        text = file.read_text("utf-8")
        assert not re.search(r"\$(?!\{\{|[ (])\w", text), file
        assert "\r" not in text


def test_the_readme_lists_every_part(everything: Path) -> None:
    readme = (everything / "README.md").read_text("utf-8")
    assert all(f"| `{kind}` | `medseg_" in readme for kind in MADE_KINDS)


def test_the_core_is_asked_for_as_it_is_here(everything: Path) -> None:
    project = tomllib.loads((everything / "pyproject.toml").read_text("utf-8"))["project"]
    release = ".".join(str(version_of("argus-torch")).split(".")[:2])
    assert project["dependencies"] == [f"argus-torch>={release}"]


@pytest.mark.parametrize("license", LICENSES)
def test_the_license_is_chosen(tmp_path: Path, license: str) -> None:
    folder = make_package("medseg", directory=tmp_path, license=license).folder
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    assert project.get("license") == (None if license == "none" else license)
    assert (folder / "LICENSE").exists() == (license != "none")
    assert ("Private :: Do Not Upload" in project.get("classifiers", ())) == (license == "none")


def test_a_kind_given_twice_is_made_once(tmp_path: Path) -> None:
    made = make_package("medseg", ("loss", "loss"), tmp_path)
    assert made.parts == (("loss", "medseg_loss"),)


@pytest.mark.parametrize(
    ("name", "module", "start"),
    [
        ("medseg", "medseg", "medseg"),
        ("Med.Seg-2", "med_seg_2", "med_seg_2"),
        ("argus-medseg", "argus_medseg", "medseg"),
        ("argus-3d", "argus_3d", "argus_3d"),
    ],
)
def test_names_follow_from_the_package(name: str, module: str, start: str) -> None:
    check_distribution_name(name)
    assert (import_name(name), prefix(name)) == (module, start)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("med seg", "cannot be the name of a package; use letters"),
        ("med/seg", "cannot be the name of a package; use letters"),
        ("../medseg", "cannot be the name of a package; use letters"),
        ("médseg", "cannot be the name of a package; use letters"),
        ("medseg\n", "cannot be the name of a package; use letters"),
        ("-medseg", "cannot be the name of a package; use letters"),
        ("", "cannot be the name of a package; use letters"),
        ("m" * 101, "has 101 characters; give a name of at most 100"),
        ("3d", "would be imported as '3d', which is not a name in Python"),
        ("class", "would be imported as 'class', which is not a name in Python"),
        ("hatchling", "'hatchling' would hide the module 'hatchling' that projects use"),
        ("Nul", "'Nul' cannot be the name of a folder on Windows"),
        ("com1", "'com1' cannot be the name of a folder on Windows"),
        ("json", "would hide the module 'json' that Python programs import"),
        ("argus", "would hide the module 'argus' that Python programs import"),
        ("argus_core", "would hide the module 'argus_core' that Python programs import"),
        ("tests", "'tests' is also a file or folder of a Python project; give another name"),
        ("Conftest", "'Conftest' is also a file or folder of a Python project; give another name"),
        ("Argus.Torch", r"argus-torch .* is installed already; give another name, or uninstall it first"),
        ("_pytest", "cannot be the name of a package"),
        ("numpy", "numpy .* is installed already"),
    ],
)
def test_a_name_that_would_not_work_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        make_package(name, directory=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_module_without_a_distribution_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loose_module.py").touch()
    (tmp_path / "mere_folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SpecError, match="'loose-module' would hide the installed module 'loose_module'"):
        check_distribution_name("loose-module")
    check_distribution_name("mere-folder")


@pytest.mark.parametrize("there", ["a file", "a folder", "a dead link"])
def test_what_is_there_already_is_left_alone(tmp_path: Path, there: str) -> None:
    place = tmp_path / "medseg"
    if there == "a file":
        place.write_text("mine", "utf-8")
    elif there == "a folder":
        place.mkdir()
    else:
        place.symlink_to("nowhere")
    with pytest.raises(
        ConflictError, match=r"medseg exists already; give another name, or another --directory"
    ):
        make_package("medseg", directory=tmp_path)
    assert list(tmp_path.iterdir()) == [place]


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        ConflictError, match=r"the folder .*nowhere for medseg does not exist; create it first"
    ):
        make_package("medseg", directory=tmp_path / "nowhere")


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(28, "No space left on device")]
)
def test_what_cannot_be_written_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    write_text, written = Path.write_text, []

    def fails_late(path: Path, *args: Any, **options: Any) -> int:
        written.append(path)
        if len(written) == 5:
            raise error
        return write_text(path, *args, **options)

    monkeypatch.setattr(Path, "write_text", fails_late)
    with pytest.raises(
        ConflictError, match=rf"medseg cannot be created: {error.strerror}; give another --directory"
    ):
        make_package("medseg", directory=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_making_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_package("medseg", directory=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_has_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "ordinary").mkdir()
    made = make_package("medseg", directory=tmp_path).folder
    assert stat.S_IMODE(made.stat().st_mode) == stat.S_IMODE((tmp_path / "ordinary").stat().st_mode)


@pytest.mark.parametrize(
    ("kind", "error", "reason"),
    [
        ("nn_modul", UnknownNameError, "no kind 'nn_modul'; did you mean 'nn_module'"),
        ("model", SpecError, "kind 'model' has no template; write a subclass of argus_core.Model"),
        ("command", SpecError, "kind 'command' has no template; declare a click command"),
    ],
)
def test_a_kind_that_is_not_made_is_told(
    tmp_path: Path, kind: str, error: type[ArgusError], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        make_package("medseg", (kind,), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_it_made_and_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = argus("medseg", "--kind", "loss", "--kind", "dataset")
    assert result.exit_code == 0
    assert result.output == (
        "medseg: 13 files\n  loss medseg_loss\n  dataset medseg_dataset\nnext:\n"
        "  python -m pip install -e 'medseg[test]'\n  python -m pytest medseg\n"
    )


def test_what_comes_next_can_be_pasted_whatever_the_folder_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "the lab's plugins"
    folder.mkdir()
    *_, installing, testing = argus("medseg", "--directory", str(folder)).output.splitlines()
    assert shlex.split(installing)[-1] == f"{folder / 'medseg'}[test]"
    assert shlex.split(testing)[-1] == str(folder / "medseg")


def test_inside_a_repository_no_other_is_made(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "plugins").mkdir()
    result = argus("medseg", "--directory", str(tmp_path / "plugins"))
    assert (
        f"the folder is in the repository {tmp_path.resolve()}, whose CI reads only .github at its top"
        in result.output
    )
    assert not (tmp_path / "plugins/medseg/.git").exists()


def test_the_command_prints_json(tmp_path: Path) -> None:
    record = json.loads(argus("medseg", "--directory", str(tmp_path), "--json").output)
    assert record["folder"] == str(tmp_path / "medseg")
    assert record["parts"] == [{"kind": "nn_module", "name": "medseg_net"}]
    assert "src/medseg/networks.py" in record["files"]
    assert record["repository"] is None


def test_the_command_refuses_in_one_line(tmp_path: Path) -> None:
    result = argus("medseg", "--directory", str(tmp_path), "--license", "GPL")
    assert result.exit_code == 1
    assert result.stderr == "error: license is 'GPL'; choose MIT, BSD-3-Clause, none\n"


def test_templates_are_data_of_the_package() -> None:
    folder = Path(package.__file__).parent / "templates"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {f"parts/{kind}.py.tmpl" for kind in MADE_KINDS} < names
    assert {f"parts/test_{kind}.py.tmpl" for kind in MADE_KINDS} < names
    assert all(name.endswith(".tmpl") for name in names)  # no tool takes them for modules
