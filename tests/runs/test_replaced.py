"""A run that another is to replace is whole again wherever the process is killed."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import pytest

from argus_core.files.made_files import MadeFiles
from argus_core.runs.replaced import ReplacedRun

pytestmark = pytest.mark.torchfree

FOLDER = "checkpoints/last.sharded"
SHARDS = [f"{FOLDER}/00000-of-00001.safetensors", f"{FOLDER}/manifest.json"]
NAMES = ["checkpoints/last.safetensors", *SHARDS, "log.txt", "config.toml"]
LISTED = ["table.csv", "checkpoints/model-000.safetensors", "own/epochs/1.txt"]
OLD = dict.fromkeys([*NAMES, *LISTED], "old")
NEW = dict.fromkeys(
    [
        "checkpoints/last.safetensors", *SHARDS, "config.toml", "metrics.jsonl", "table.csv",
        "val/epochs/1.txt",
    ],
    "new",
)  # fmt: skip


class Killed(BaseException):
    """Nothing of the process runs after this."""


def run_in(folder: Path, first: Path | None = None) -> ReplacedRun:
    files = own_in(folder)
    overwritten = MadeFiles(folder, folder / "checkpoints", (), ".overwritten")
    return ReplacedRun(folder, files, made_in(folder), overwritten, [] if first is None else [first])


def made_in(folder: Path) -> MadeFiles:
    return MadeFiles(folder, folder / "checkpoints", own_in(folder))


def own_in(folder: Path) -> list[Path]:
    """Return the files that every run has, one of which is a folder."""
    names = [*NAMES, "metrics.jsonl"]
    return [folder / name for name in dict.fromkeys(FOLDER if name in SHARDS else name for name in names)]


def write(folder: Path, files: dict[str, str]) -> None:
    (folder / "checkpoints").mkdir(exist_ok=True)
    made = made_in(folder)
    for name, text in files.items():
        made.note(folder / name)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")


def read(folder: Path) -> dict[str, str]:
    """Return each file but the list, which has to list the files of a run."""
    files = {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        for path in folder.rglob("*")
        if path.is_file()
    }
    listed = {file.relative_to(folder).as_posix() for file in made_in(folder).files()}
    assert set(files) <= {*listed, *NAMES, "metrics.jsonl", ".made"}
    files.pop(".made", None)
    return files


def replace_run(folder: Path) -> None:
    run = run_in(folder)
    run.set_aside()
    write(folder, NEW)
    run.remove_old()


def fail_run(folder: Path) -> None:
    run = run_in(folder)
    run.set_aside()
    write(folder, NEW)
    run.put_back()


def kill_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process be killed at the call after ``count`` that changes a folder."""
    left = [count]

    def counting(name: str) -> None:
        call = getattr(os, name)

        def counted(*args: object, **options: object) -> object:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return call(*args, **options)

        monkeypatch.setattr(os, name, counted)

    for name in ("replace", "unlink", "rmdir"):
        counting(name)


@pytest.mark.parametrize("action", [replace_run, fail_run])
@pytest.mark.parametrize("count", range(0, 40, 2))
@pytest.mark.parametrize("recovery", range(0, 24, 3))
def test_killed_at_any_moment_the_next_process_finds_one_whole_run(
    action: object, count: int, recovery: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, OLD)
    for moment, step in ((count, action), (recovery, recover)):
        with monkeypatch.context() as patch:
            kill_after(moment, patch)
            with contextlib.suppress(Killed):
                step(tmp_path)  # type: ignore[operator]
    recover(tmp_path)
    assert read(tmp_path) in ([OLD] if action is fail_run else [OLD, NEW])
    assert not run_in(tmp_path).is_there


@pytest.mark.parametrize("count", range(0, 30, 2))
def test_run_that_has_a_checkpoint_is_not_given_up_for_the_one_before(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tmp_path / "checkpoints" / "last.safetensors"
    write(tmp_path, OLD)
    run_in(tmp_path).set_aside()
    write(tmp_path, NEW)
    with monkeypatch.context() as patch:
        kill_after(count, patch)
        with contextlib.suppress(Killed):
            recover(tmp_path, first)
    recover(tmp_path, first)
    assert read(tmp_path) == NEW


def recover(folder: Path, first: Path | None = None) -> None:
    run = run_in(folder, first)
    run.put_back()
    run.remove_old()


def test_there_is_a_run_to_put_back_from_its_first_move_to_its_last(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    run = run_in(tmp_path)
    assert not run.is_there
    run.set_aside()
    assert run.is_there
    assert run.put_back()
    assert not run.is_there
    assert not run.put_back()


@pytest.mark.parametrize("mark", [".replacing", ".replaced", ".discarded"])
def test_mark_that_came_with_a_run_removes_nothing(mark: str, tmp_path: Path) -> None:
    write(tmp_path, OLD)
    (tmp_path / mark).touch()
    recover(tmp_path)
    assert read(tmp_path) == OLD
    assert not run_in(tmp_path).is_there


def test_what_an_earlier_replacement_left_is_not_put_back(tmp_path: Path) -> None:
    write(tmp_path, {**OLD, ".metrics.jsonl.old": "of another run"})
    run = run_in(tmp_path)
    run.set_aside()
    run.put_back()
    assert read(tmp_path) == OLD


def test_checkpoints_on_another_disk_are_replaced_there(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "checkpoints").symlink_to(tmp_path / "disk")
    write(folder, OLD)
    run_in(folder).set_aside()
    names = ["last.safetensors", "last.sharded", "model-000.safetensors"]
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == [f".{name}.old" for name in names]
    run_in(folder).put_back()
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == names


UNLISTED = ["table.csv", "checkpoints/model-000.safetensors"]


def overwrite(folder: Path, is_kept: bool) -> None:
    """Replace a run whose list is not believed, as that of a copied folder, and write to two of its files."""
    run = run_in(folder)
    run.set_aside()
    for name in UNLISTED:
        run.keep(folder / name)
        (folder / f"{name}.new").write_text("new", "utf-8")
        (folder / f"{name}.new").replace(folder / name)
    write(folder, {"checkpoints/last.safetensors": "new", "config.toml": "new"})
    if is_kept:
        run.remove_old()
    else:
        run.put_back()


@pytest.mark.parametrize("is_kept", [False, True])
@pytest.mark.parametrize("has_links", [False, True])
@pytest.mark.parametrize("count", range(0, 40, 2))
def test_overwritten_files_are_back_with_their_run_wherever_the_process_is_killed(
    count: int, has_links: bool, is_kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [*NAMES, *UNLISTED]
    write(tmp_path, dict.fromkeys(files, "old"))
    (tmp_path / ".made").unlink()
    with monkeypatch.context() as patch:
        if not has_links:
            patch.setattr(os, "link", without_links)
        kill_after(count, patch)
        with contextlib.suppress(Killed):
            overwrite(tmp_path, is_kept)
    recover(tmp_path)
    assert not list(tmp_path.rglob("*.old"))
    assert not (tmp_path / ".overwritten").exists()
    texts = {name: (tmp_path / name).read_text("utf-8") for name in files if (tmp_path / name).exists()}
    whole = dict.fromkeys(files, "old")
    replaced = {name: "new" for name in files if name not in ("log.txt", *SHARDS)}
    assert texts in ([whole, replaced] if is_kept else [whole])


def test_file_that_was_kept_and_not_yet_overwritten_has_one_name_again(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys([*NAMES, "table.csv"], "old"))
    (tmp_path / ".made").unlink()
    run = run_in(tmp_path)
    run.set_aside()
    run.keep(tmp_path / "table.csv")
    run.put_back()
    assert (tmp_path / "table.csv").read_text("utf-8") == "old"
    assert not list(tmp_path.rglob("*.old"))


def without_links(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_list_of_overwritten_files_that_came_with_a_run_moves_nothing(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    (tmp_path / ".table.csv.old").write_text("mine", "utf-8")
    (tmp_path / ".overwritten").write_text('1\n"table.csv"\n', "utf-8")
    (tmp_path / ".discarded").touch()
    recover(tmp_path)
    assert (tmp_path / "table.csv").read_text("utf-8") == "old"
    assert not (tmp_path / ".overwritten").exists()
