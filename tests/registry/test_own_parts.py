"""A project's own parts: which modules are imported, and the sentence about one that cannot be."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from argus_core.checkpoint.records import missing, record_of, records_of
from argus_core.errors import BrokenPluginError, ConfigError, UnsafeCheckpointError
from argus_core.registry.own_parts import OwnPart, import_parts, project_parts
from argus_core.registry.registry import isolated_registry, register, resolve

pytestmark = pytest.mark.torchfree


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    with isolated_registry():
        yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def imported(written: str, text: str | None = None) -> None:
    if text is not None:
        Path(written).parent.mkdir(parents=True, exist_ok=True)
        Path(written).write_text(text)
    import_parts([OwnPart(written, Path(), "--parts")])


def registering(name: str, factory: str = "dict") -> str:
    return f"import argus_core\nargus_core.register('loss', {name!r})({factory})\n"


def test_file_registers_names_and_its_module_is_noted() -> None:
    imported("ours/own_losses.py", registering("focal"))
    component = resolve("loss", "focal")
    assert (component.provider, component.registered_by) == (None, "own_losses")
    assert record_of("focal", component)["registered_by"] == "own_losses"
    register("loss", "other", list)
    assert resolve("loss", "other").registered_by is None


def test_module_that_registered_a_missing_name_is_told() -> None:
    imported("own_losses.py", registering("focal"))
    _, _, _, why = missing("loss", record_of("focal", resolve("loss", "focal")))
    assert why == (
        "saved from builtins:dict, which the module own_losses registered: --parts gives it to a command"
    )


def test_module_is_found_in_the_folder_of_the_project_from_below(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pyproject.toml").write_text('[tool.argus]\nparts = ["ownpkg.losses", "own_more.py"]\n')
    (folder / "ownpkg").mkdir()
    (folder / "ownpkg" / "losses.py").write_text(registering("focal"))
    (folder / "own_more.py").write_text(registering("more"))
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    import_parts(project_parts())
    assert resolve("loss", "focal").registered_by == "ownpkg.losses"
    assert resolve("loss", "more").registered_by == "own_more"


def test_file_of_the_project_hides_no_module_of_python(folder: Path) -> None:
    (folder / "colorsys.py").write_text("raise RuntimeError")
    imported("own_plain.py", "import colorsys\n")
    with pytest.raises(
        ConfigError, match=r"colorsys\.py' of --parts has the name of the module .*rename colors"
    ):
        imported("colorsys.py")


def test_second_file_of_the_same_name_is_refused() -> None:
    imported("one/own_same.py", "")
    with pytest.raises(ConfigError, match="is imported in its place; rename own_same.py"):
        imported("two/own_same.py", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "x = 1\nx / 0",
            r"cannot be imported: ZeroDivisionError: division by zero \(.*own_bad\.py:2\); correct it",
        ),
        ("def f(:", r"SyntaxError: .*\(.*own_bad\.py:1\); correct it"),
        ("import absent_module", r"ModuleNotFoundError: No module named 'absent_module' \(.*:1\)"),
        ("raise SystemExit(3)", r"SystemExit: 3 \(.*:1\)"),
        (
            registering("focal") + registering("focal", "list"),
            r"ConflictError: loss 'focal' is taken by builtins:dict",
        ),
    ],
)
def test_file_that_raises_is_one_sentence_with_its_line(text: str, message: str) -> None:
    with pytest.raises(BrokenPluginError, match=rf"^'?own_bad\.py'? of --parts .*{message}") as caught:
        imported("own_bad.py", text)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("own_part.py", "does not exist; did you mean .*'own_parts.py'"),
        ("absent/parts.py", "does not exist; the folder 'absent' does not exist; correct the path"),
        ("ownfolder/", "is a folder; name a file in it, or a module: 'ownfolder.networks'"),
        ("own-parts.py", "cannot be imported, as Python imports it by its name; rename it"),
        ("ownfolder.netwroks", "is not a module .*; did you mean 'networks'"),
        ("absent_package.networks", "is not a module in .*; correct the name, or write the file's path"),
        ("own_fifo.py", "^'own_fifo.py' of --parts is not an ordinary file; name a file of Python code$"),
        ("own_loop.py", "is not an ordinary file"),
        ("...", "is not the name of a module; give one, such as 'mypkg.networks', or the path of a file"),
        (".own_parts", "is not the name of a module"),
        ("", "^'' of --parts is not the name of a module"),
    ],
)
def test_part_that_cannot_be_found_is_told_with_the_next_action(
    folder: Path, written: str, message: str
) -> None:
    (folder / "own_parts.py").write_text("")
    (folder / "own-parts.py").write_text("")
    (folder / "ownfolder").mkdir()
    (folder / "ownfolder" / "networks.py").write_text("")
    os.mkfifo(folder / "own_fifo.py")
    (folder / "own_loop.py").symlink_to("own_loop.py")
    with pytest.raises(ConfigError, match=message):
        imported(written)


def test_part_that_changes_the_folder_of_the_commands_paths_is_told() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^'own_moving\.py' of --parts changes the current folder to '/', .*leave os.chdir out",
    ):
        imported("own_moving.py", "import os\nos.chdir('/')")


def test_part_that_claims_another_place_of_any_type_is_told() -> None:
    with pytest.raises(
        ConfigError, match=r"^'own_placed\.py' of --parts has the name of .*; rename own_placed"
    ):
        imported("own_placed.py", "__file__ = 3")


@pytest.mark.parametrize("value", ['"parts.py"', "[1]", '[""]', "{ a = 1 }"])
def test_list_of_another_form_is_refused(folder: Path, value: str) -> None:
    (folder / "pyproject.toml").write_text(f"[tool.argus]\nparts = {value}\n")
    with pytest.raises(
        ConfigError, match=re.escape("[tool.argus] parts in ") + ".*give a list of files and mod"
    ):
        project_parts()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.argus]\npart = ['parts.py']", r"has the unknown key 'part'; did you mean 'parts'\?"),
        ("[tool.argus]\nseed = 3", "has the unknown key 'seed'; it takes parts and prefer"),
        ("[tool]\nargus = 'parts.py'", r"tool\.argus in .* is 'parts.py'; write the table \[tool\.argus\]"),
        ("[tool.argus", r"pyproject\.toml is not TOML"),
    ],
)
def test_table_of_another_form_is_refused(folder: Path, text: str, message: str) -> None:
    (folder / "pyproject.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        project_parts()


def test_project_without_parts_has_none(folder: Path) -> None:
    assert project_parts() == []
    (folder / "pyproject.toml").write_text("[tool.argus.prefer]\n# parts\n")
    assert project_parts() == []


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="gives a file to another user")
def test_list_of_another_user_in_a_folder_above_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pyproject.toml").write_text('[tool.argus]\nparts = ["parts.py"]\n')
    os.chown(folder / "pyproject.toml", 12345, 12345)
    assert len(project_parts()) == 1  # the folder was chosen
    folder.chmod(0o1777)
    with pytest.raises(ConfigError, match="belongs to another user, and names code to run"):
        project_parts()
    folder.chmod(0o700)
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    with pytest.raises(ConfigError, match="belongs to another user, and names code to run"):
        project_parts()


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="gives a file to another user")
def test_link_of_another_user_to_a_file_of_this_one_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mine.toml").write_text('[tool.argus]\nparts = ["parts.py"]\n')
    (folder / "pyproject.toml").symlink_to("mine.toml")
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    assert len(project_parts()) == 1
    os.chown(folder / "pyproject.toml", 12345, 12345, follow_symlinks=False)
    with pytest.raises(ConfigError, match="belongs to another user, and names code to run"):
        project_parts()


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="gives a file to another user")
@pytest.mark.parametrize("part", ["parts.py", "parts", "parts/__init__.py", "parts.py -> link"])
def test_part_of_another_user_in_a_folder_of_all_is_refused(folder: Path, part: str) -> None:
    name = part.removesuffix(" -> link")
    written = "parts.networks" if "__init__" in part else name
    (folder / "pyproject.toml").write_text(f'[tool.argus]\nparts = ["{written}"]\n')
    file = folder / (name if name.endswith(".py") else f"{name}.py")
    file.parent.mkdir(exist_ok=True)
    if part.endswith("link"):
        (folder / "mine.py").touch()
        file.symlink_to("mine.py")
    else:
        file.touch()
    os.chown(file, 12345, 12345, follow_symlinks=False)
    assert len(project_parts()) == 1
    folder.chmod(0o1777)
    with pytest.raises(ConfigError, match=f"{file} belongs to another user, and is code to run for"):
        project_parts()


@pytest.mark.parametrize("module", [3, ["parts"], "a" * 1001])
def test_hostile_record_of_the_module_is_refused(module: object, tmp_path: Path) -> None:
    record = {**record_of("Model", None), "registered_by": "parts"}
    assert records_of({"model": record, "components": {}}, tmp_path) == [("model", record)]
    with pytest.raises(UnsafeCheckpointError):
        records_of({"model": {**record, "registered_by": module}, "components": {}}, tmp_path)
