"""A study's folder that somebody else has filled."""

from __future__ import annotations

import os
import sqlite3
import struct
from pathlib import Path
from typing import Any

import pytest

from argus_core.config import read_config
from argus_core.errors import ConfigError
from argus_optuna.folder import check_folder
from argus_optuna.result import SweepResult
from argus_optuna.settings import read_settings
from argus_optuna.study import Study

STUDY = Path("runs/digits-sweep")
SIZE = 4096  # of a page in a database of SQLite
MAGIC = bytes.fromhex("d9d505f920a163d7")


@pytest.fixture
def begin(write: Any) -> Any:
    """Return a function that opens the study in `STUDY`, where there is one already, and closes it."""
    path = write()

    def open_study() -> None:
        Study(read_settings(read_config(path), str(path)), "max", {}).close()

    open_study()
    return open_study


def hot_journal(database: Path, victim: Path) -> bytes:
    """Return a journal by which SQLite rolls a database back, and then deletes the file that it names."""
    content, nonce = database.read_bytes(), 1234
    page, name = content[:SIZE], os.fsencode(victim)
    header = MAGIC + struct.pack(">5I", 1, nonce, len(content) // SIZE, 512, SIZE)
    sum_of_page = (nonce + sum(page[place] for place in range(SIZE - 200, 0, -200))) % 2**32
    record = struct.pack(">I", 1) + page + struct.pack(">I", sum_of_page)
    sum_of_name = sum(struct.unpack(f"{len(name)}b", name)) % 2**32
    end = struct.pack(">I", 2**30 // SIZE + 1) + name + struct.pack(">2I", len(name), sum_of_name) + MAGIC
    return header.ljust(512, b"\0") + record + end


def test_sqlite_deletes_the_file_that_a_journal_names(tmp_path: Path) -> None:
    database, victim = tmp_path / "study.db", tmp_path / "thesis.tex"
    victim.write_text("years")
    with sqlite3.connect(database) as connection:
        connection.execute("create table t (x)")
    connection.close()
    Path(f"{database}-journal").write_bytes(hot_journal(database, victim))
    connection = sqlite3.connect(database)
    connection.execute("select * from t")
    connection.close()
    assert not victim.exists()  # else the check below is not needed any more


@pytest.mark.parametrize("name", ["study.db", "locks/study", "locks/trial-0001"])
def test_file_that_a_journal_names_is_not_deleted(begin: Any, name: str, tmp_path: Path) -> None:
    victim = tmp_path / "thesis.tex"
    victim.write_text("years")
    Path(f"{STUDY / name}-journal").write_bytes(hot_journal(STUDY / "study.db", victim))
    with pytest.raises(ConfigError, match=f"{name}-journal would make SQLite delete another file; do not"):
        begin()
    assert victim.read_text() == "years"


@pytest.mark.parametrize(
    "name",
    [
        *("study.db", "study.db-journal", "study.db-wal", "best.safetensors"),
        *("locks", "locks/study", "locks/trial-0001"),
    ],
)
@pytest.mark.parametrize("is_there", [True, False])
def test_link_in_the_folder_is_not_followed(begin: Any, name: str, is_there: bool, tmp_path: Path) -> None:
    link, target = STUDY / name, tmp_path / "elsewhere"
    if link.exists():
        link.rename(STUDY / "moved")
    if is_there:
        target.mkdir() if name == "locks" else target.write_bytes(b"")
    link.symlink_to(target)
    with pytest.raises(
        ConfigError, match=rf"{name} is a symbolic link; .*; replace|'{STUDY}' cannot be created"
    ):
        begin()
    assert target.exists() == is_there
    assert not is_there or not (list(target.iterdir()) if name == "locks" else target.read_bytes())


def test_trial_that_is_a_link_to_another_run_does_not_replace_it(begin: Any, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (STUDY / "trial-0001").symlink_to(tmp_path / "good")
    with pytest.raises(ConfigError, match=r"trial-0001 is a symbolic link; a sweep writes only .*; replace"):
        begin()


@pytest.mark.parametrize("name", ["study.db", "study.db-journal", "locks/study", "locks/study-journal"])
def test_pipe_is_not_waited_for(begin: Any, name: str) -> None:
    (STUDY / name).unlink(missing_ok=True)
    os.mkfifo(STUDY / name)
    with pytest.raises(ConfigError, match=f"{name} is not an ordinary file; .*; remove it"):
        begin()


def test_file_with_another_name_elsewhere_is_not_written(begin: Any) -> None:
    os.link(STUDY / "study.db", "places.sqlite")
    before = Path("places.sqlite").read_bytes()
    with pytest.raises(
        ConfigError, match=r"study\.db is a hard link to a file elsewhere; .*; replace the link with a copy"
    ):
        begin()
    assert Path("places.sqlite").read_bytes() == before


def test_study_that_is_opened_afterwards_is_looked_at_too(begin: Any) -> None:
    os.link(STUDY / "study.db", "places.sqlite")
    with pytest.raises(ConfigError, match="is a hard link to a file elsewhere"):
        SweepResult(STUDY, "val_accuracy", "max", ()).load_study()


def test_ordinary_folder_passes_as_does_a_link_to_one(begin: Any) -> None:
    Path("link").symlink_to(STUDY.absolute())
    check_folder(STUDY)
    check_folder(Path("link"))
