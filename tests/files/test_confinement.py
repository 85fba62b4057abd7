"""Nothing in a confined folder leads a writer out of it."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path

import pytest

from argus_core.errors import ConfigError
from argus_core.files.confinement import check_file, check_folder, confined, opener, replacing
from argus_core.storage.replacement import replacement

pytestmark = [
    pytest.mark.torchfree,
    pytest.mark.skipif(os.name == "nt", reason="Windows opens nothing from a folder"),
]

MODES = ["r", "w", "a", "x", "r+"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder beside a file that is not of it."""
    (tmp_path / "thesis.tex").write_text("precious", "utf-8")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def is_untouched(folder: Path) -> bool:
    beside = {path.name for path in folder.parent.iterdir()} - {"run", "linked"}
    return (
        (folder.parent / "thesis.tex").read_text("utf-8") == "precious"
        and beside == {"thesis.tex", "elsewhere"}
        and not any((folder.parent / "elsewhere").iterdir())
    )


def touch(path: Path, mode: str) -> None:
    with open(path, mode, opener=opener):
        pass


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target", ["../thesis.tex", "../new.tex", "../elsewhere", "own.txt", "log.txt"])
def test_file_that_is_a_link_is_refused(folder: Path, mode: str, target: str) -> None:
    (folder / "own.txt").touch()
    (folder / "log.txt").symlink_to(target)
    with (
        confined(folder),
        pytest.raises(
            (ConfigError, FileExistsError), match=r"log.txt is a symbolic link; a run writes only|exists"
        ),
    ):
        touch(folder / "log.txt", mode)
    assert is_untouched(folder)


@pytest.mark.parametrize("mode", ["w", "a", "x"])
@pytest.mark.parametrize("way", ["sub", "deep/sub"])
def test_folder_on_the_way_that_is_a_link_is_refused(folder: Path, mode: str, way: str) -> None:
    (folder / way).parent.mkdir(exist_ok=True)
    (folder / way).symlink_to(folder.parent / "elsewhere")
    path = folder / way / "log.txt"
    with confined(folder):
        with pytest.raises(ConfigError, match=r"sub on the way to .*log.txt is a symbolic link"):
            touch(path, mode)
        for check in (check_file, check_folder):
            with pytest.raises(ConfigError, match="is a symbolic link"):
                check(path)
    assert is_untouched(folder)


@pytest.mark.parametrize("name", ["sub/../log.txt", "sub/../new/log.txt"])
def test_way_back_from_a_link_is_refused(folder: Path, name: str) -> None:
    (folder.parent / "elsewhere" / "inner").mkdir()
    (folder / "sub").symlink_to(folder.parent / "elsewhere" / "inner")
    with confined(folder):
        for use in (check_file, check_folder, lambda path: touch(path, "w")):
            with pytest.raises(ConfigError, match=r"has '\.\.' after a symbolic link"):
                use(folder / name)
        touch(folder / "new" / ".." / "log.txt", "w")  # without a link it leads where it reads
    (folder.parent / "elsewhere" / "inner").rmdir()
    assert is_untouched(folder)


@pytest.mark.parametrize("mode", ["w", "a", "r+"])
def test_file_with_another_name_elsewhere_gives_way_to_a_copy(folder: Path, mode: str) -> None:
    os.link(folder.parent / "thesis.tex", folder / "log.txt")
    with confined(folder), open(folder / "log.txt", mode, opener=opener) as file:
        file.write("new")
    assert is_untouched(folder)
    assert (folder / "log.txt").read_text("utf-8") == {"w": "new", "a": "preciousnew", "r+": "newcious"}[mode]
    assert [path.name for path in folder.iterdir()] == ["log.txt"]


def test_copy_of_a_file_that_others_may_not_read_is_as_private(folder: Path) -> None:
    (folder.parent / "thesis.tex").chmod(0o600)
    os.link(folder.parent / "thesis.tex", folder / "log.txt")
    with confined(folder), open(folder / "log.txt", "a", opener=opener):
        pass
    assert (folder / "log.txt").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", ["r", "w", "a"])
def test_pipe_is_refused_and_not_waited_for(folder: Path, mode: str) -> None:
    os.mkfifo(folder / "log.txt")
    with confined(folder), pytest.raises(ConfigError, match="log.txt is not an ordinary file; a run writes"):
        touch(folder / "log.txt", mode)


def test_pipe_with_a_reader_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "log.txt")
    reader = os.open(folder / "log.txt", os.O_RDONLY | os.O_NONBLOCK)
    with confined(folder), pytest.raises(ConfigError, match="log.txt is not an ordinary file"):
        touch(folder / "log.txt", "w")
    os.close(reader)


def test_folder_in_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / "log.txt").mkdir()
    with confined(folder), pytest.raises(ConfigError, match="log.txt is not an ordinary file"):
        touch(folder / "log.txt", "w")


@pytest.mark.parametrize("name", ["linked", "run"])
def test_folder_that_is_itself_reached_by_a_link_is_confined_by_both_names(folder: Path, name: str) -> None:
    linked = folder.parent / "linked"
    linked.symlink_to(folder)
    (folder / "log.txt").symlink_to("../thesis.tex")
    with confined(linked):
        with open(linked / "own.txt", "w", opener=opener) as file:
            file.write("fine")
        with pytest.raises(ConfigError, match="log.txt is a symbolic link"):
            touch(folder.parent / name / "log.txt", "w")
    assert (folder / "own.txt").read_text("utf-8") == "fine"


def test_links_that_a_user_names_elsewhere_are_followed(folder: Path) -> None:
    (folder.parent / "elsewhere" / "log.txt").symlink_to(folder.parent / "thesis.tex")
    with confined(folder), open(folder.parent / "elsewhere" / "log.txt", "a", opener=opener) as file:
        file.write("!")
    assert (folder.parent / "thesis.tex").read_text("utf-8") == "precious!"


def test_folder_is_confined_in_other_threads_and_no_longer_than_the_block(folder: Path) -> None:
    (folder / "log.txt").symlink_to("../thesis.tex")
    refused: list[str] = []

    def write() -> None:
        try:
            open(folder / "log.txt", "a", opener=opener).close()
        except ConfigError as error:
            refused.append(str(error))

    with confined(folder):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert len(refused) == 1
    open(folder / "log.txt", "a", opener=opener).close()


def test_checkpoint_that_is_a_link_is_not_written_through(folder: Path) -> None:
    (folder / "best.safetensors").symlink_to("../thesis.tex")
    with (
        confined(folder),
        pytest.raises(ConfigError, match="best.safetensors is a symbolic link"),
        replacement(folder / "best.safetensors"),
    ):
        pass
    assert is_untouched(folder)


def test_file_is_replaced_by_one_that_is_whole(folder: Path) -> None:
    (folder / "config.toml").write_text("old", "utf-8")
    with contextlib.suppress(RuntimeError), replacing(folder / "config.toml") as file:
        file.write("ne")
        raise RuntimeError("half")
    assert [(path.name, path.read_text("utf-8")) for path in folder.iterdir()] == [("config.toml", "old")]
    with replacing(folder / "config.toml") as file:
        file.write("new")
    assert [(path.name, path.read_text("utf-8")) for path in folder.iterdir()] == [("config.toml", "new")]


def test_file_is_on_the_disk_before_it_replaces_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "config.toml").write_text("old", "utf-8")
    seen: list[tuple[int, str]] = []

    def fail(descriptor: int) -> None:
        seen.append((os.fstat(descriptor).st_size, (folder / "config.toml").read_text("utf-8")))
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"), replacing(folder / "config.toml") as file:
        file.write("newer")
    assert seen == [(5, "old")]
    assert [(path.name, path.read_text("utf-8")) for path in folder.iterdir()] == [("config.toml", "old")]


def test_replaced_link_is_not_followed(folder: Path) -> None:
    (folder / "config.toml").symlink_to("../thesis.tex")
    with confined(folder), replacing(folder / "config.toml") as file:
        file.write("new")
    assert is_untouched(folder)
