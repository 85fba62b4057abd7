"""A run directory tells what the run has made from what is of others, and believes no list from elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from argus_core.files.confinement import check_file, confined, note_made, opener, replacing
from argus_core.files.made_files import MadeFiles
from argus_core.storage.replacement import replacement

pytestmark = pytest.mark.torchfree


def made_in(folder: Path) -> MadeFiles:
    return MadeFiles(folder, folder / "checkpoints", [folder / "log.txt"])


def listed(folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in made_in(folder).files()]


def test_files_are_listed_before_they_are_made(tmp_path: Path) -> None:
    made_in(tmp_path).note(tmp_path / "table.csv")
    assert listed(tmp_path) == ["table.csv"]
    assert not (tmp_path / "table.csv").exists()


def test_files_that_were_there_are_not_the_runs(tmp_path: Path) -> None:
    (tmp_path / "notes.md").touch()
    made_in(tmp_path).note(tmp_path / "notes.md")
    assert listed(tmp_path) == []
    assert not (tmp_path / ".made").exists()


def test_what_every_run_has_needs_no_list(tmp_path: Path) -> None:
    made_in(tmp_path).note(tmp_path / "log.txt")
    made_in(tmp_path).note(tmp_path / "checkpoints", is_folder=True)
    assert not (tmp_path / ".made").exists()


def test_files_elsewhere_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for path in (tmp_path / "table.csv", tmp_path / "run" / ".." / "other.csv", tmp_path / "running"):
        made_in(tmp_path / "run").note(path)
    assert not (tmp_path / "run" / ".made").exists()


@pytest.mark.parametrize(
    "name", ["a\nb", "a'b\"c", "ünï", " a ", "a.", "a" * 255, os.fsdecode(b"a\xff"), "-", ".hidden", "a\\b"]
)
def test_names_come_back_as_they_were(name: str, tmp_path: Path) -> None:
    made_in(tmp_path).note(tmp_path / name)
    made_in(tmp_path).note(tmp_path / "last")
    assert listed(tmp_path) == [name, "last"]


def test_files_in_linked_checkpoints_are_listed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "disk")
    made_in(tmp_path / "run").note(tmp_path / "run" / "checkpoints" / "a")
    made_in(tmp_path / "run").note(tmp_path / "disk" / "b")
    assert listed(tmp_path / "run") == ["checkpoints/a", "checkpoints/b"]


def test_list_that_was_moved_with_its_run_is_believed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    made_in(tmp_path / "run").note(tmp_path / "run" / "table.csv")
    (tmp_path / "run").rename(tmp_path / "moved")
    assert listed(tmp_path / "moved") == ["table.csv"]


def test_list_that_was_copied_is_not_believed_and_begun_again(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    made_in(tmp_path / "run").note(tmp_path / "run" / "table.csv")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert listed(tmp_path / "copy") == []
    made_in(tmp_path / "copy").note(tmp_path / "copy" / "other.csv")
    assert listed(tmp_path / "copy") == ["other.csv"]


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"7\n", b"[]\n", b'"notes.md"\n', b"\xff", b"-1\n", b"0" * 5000 + b"\n"]
)
def test_list_without_its_own_number_is_not_believed(text: bytes, tmp_path: Path) -> None:
    (tmp_path / ".made").write_bytes(text + b'"notes.md"\n')
    assert listed(tmp_path) == []


@pytest.mark.parametrize(
    "line",
    [
        '"../notes.md"', '"/etc/passwd"', '"a/../../notes.md"', '""', '"/"', '"."', '"a//b"', '"a\\u0000b"',
        "7", "null", '"\\ud800"', f'"{"a" * 5000}"', "[1]", "{", "[" * 5000, '"link/notes.md"',
        '"outer/notes.md"',
    ],
)  # fmt: skip
def test_lines_that_name_no_file_of_the_folder_are_passed_over(line: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "own").mkdir(parents=True)
    (folder / "link").symlink_to("own")
    (folder / "outer").symlink_to(tmp_path)
    made_in(folder).note(folder / "table.csv")
    with (folder / ".made").open("a", encoding="utf-8") as file:
        file.write(f'{line}\n"last"\n')
    assert listed(folder) == ["table.csv", "last"]


def test_line_that_was_cut_off_takes_no_other_with_it(tmp_path: Path) -> None:
    made_in(tmp_path).note(tmp_path / "one")
    with (tmp_path / ".made").open("a", encoding="utf-8") as file:
        file.write('"tw')
    made_in(tmp_path).note(tmp_path / "three")
    made_in(tmp_path).note(tmp_path / "four")
    assert listed(tmp_path) == ["one", "three", "four"]


@pytest.mark.skipif(os.name == "nt", reason="Windows makes links for administrators alone")
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("notes.md", path)])
def test_what_took_the_place_of_a_listed_file_is_not_the_runs(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    made_in(tmp_path).note(tmp_path / "table.csv")
    make(tmp_path / "table.csv")
    assert listed(tmp_path) == []


def test_folders_are_removed_if_the_run_made_them_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    made = made_in(tmp_path)
    for name in ("mine/a/x", "kept/b/x", "c/d/x"):
        made.note(tmp_path / name)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "kept" / "notes.md").touch()
    made.remove()
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "kept",
        "kept/notes.md",
        "mine",
    ]


def write_opened(path: Path) -> None:
    with open(path, "w", encoding="utf-8", opener=opener):
        pass


def write_replacing(path: Path) -> None:
    with replacing(path):
        pass


def write_whole(path: Path) -> None:
    with replacement(path):
        pass


@pytest.mark.parametrize("write", [write_opened, write_replacing, write_whole])
def test_every_writer_of_the_package_lists_what_it_makes(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    inner = tmp_path / "run"
    inner.mkdir()
    (inner / "notes.md").touch()
    with confined(tmp_path, note=made_in(tmp_path).note), confined(inner, note=made_in(inner).note):
        for path in (inner / "notes.md", inner / "table.csv", tmp_path / "outer.csv"):
            write(path)
    assert listed(inner) == ["table.csv"]
    assert listed(tmp_path) == ["outer.csv"]
    write(inner / "later.csv")
    assert listed(inner) == ["table.csv"]


def test_reading_and_looking_list_nothing(tmp_path: Path) -> None:
    (tmp_path / "notes.md").touch()
    with confined(tmp_path, note=made_in(tmp_path).note):
        check_file(tmp_path / "other.csv")
        with open(tmp_path / "notes.md", encoding="utf-8", opener=opener):
            pass
        note_made(tmp_path.parent / "elsewhere.csv")
    assert not (tmp_path / ".made").exists()
