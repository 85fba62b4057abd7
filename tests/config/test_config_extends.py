"""A configuration starts from other files, which it overrides as it overrides a template."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import argus_core
from argus_core.config import complete_config, read_config, read_document, resolved_toml
from argus_core.config import document as documents
from argus_core.errors import ConfigError

pytestmark = pytest.mark.torchfree

BASE = """
[model]
nn_module = ["net", { hidden = 8 }]
loss = "CrossEntropyLoss"
optimizer = ["SGD", { lr = 0.1, momentum = 0.9 }]

[data]
train = "points"
batch_size = 8
"""


def written(folder: Path, **files: str) -> Path:
    """Write files by their names without suffix, and return the first one's path."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / f"{next(iter(files))}.toml"


def test_each_file_overrides_those_before_it(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        mine='extends = ["base.toml", "data/large.toml"]\n[model]\noptimizer.lr = 0.5\n',
        base=BASE,
        data__large="[data]\nbatch_size = 64\n[fit]\nnum_epochs = 4\n",
    )
    config = read_config(path, ["fit.num_epochs=9"])
    assert config.model["optimizer"] == ("SGD", {"lr": 0.5, "momentum": 0.9})
    assert (config.data["batch_size"], config.fit["num_epochs"]) == (64, 9)
    assert "extends" not in resolved_toml(config)


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        mine='extends = "data/large.toml"',
        data__large='extends = "../base.toml"\n[data]\nbatch_size = 64',
        base=BASE,
    )
    assert read_config(path).data["batch_size"] == 64


def test_a_template_is_below_the_files(tmp_path: Path) -> None:
    def baseline() -> dict[str, Any]:
        return {"model": {"loss": "MSELoss"}, "data": {"num_workers": 3}}

    path = written(tmp_path, mine='extends = ["base.toml"]', base=f'template = "baseline"\n{BASE}')
    with argus_core.isolated_registry():
        argus_core.register("config", "baseline", baseline)
        config = read_config(path)
    assert (config.model["loss"], config.data["num_workers"]) == ("CrossEntropyLoss", 3)


def test_a_file_may_be_extended_by_two_others(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        mine='extends = ["one.toml", "two.toml"]',
        one='extends = ["base.toml"]\n[data]\nbatch_size = 1',
        two='extends = ["base.toml"]\n[data]\nnum_workers = 2',
        base=BASE,
    )
    assert read_config(path).data["num_workers"] == 2


def test_later_edits_of_an_extended_file_have_no_effect_on_a_read_document(tmp_path: Path) -> None:
    path = written(tmp_path, mine='extends = ["base.toml"]', base=BASE)
    document = read_document(path)
    written(tmp_path, base="")
    assert complete_config(document, path).data["batch_size"] == 8


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"mine": 'extends = "mine.toml"'}, "mine.toml extends itself: .*mine.toml -> .*mine.toml"),
        (
            {"mine": 'extends = "a.toml"', "a": 'extends = ["b.toml"]', "b": 'extends = "mine.toml"'},
            "b.toml extends itself: .*mine.toml -> .*a.toml -> .*b.toml -> .*mine.toml; remove one",
        ),
        ({"mine": 'extends = "other.toml"'}, "mine.toml extends 'other.toml', and there is no file"),
        ({"mine": 'extends = "."'}, "is a directory; name a TOML file"),
        ({"mine": f'extends = "{"a/" * 3000}b"'}, "mine.toml extends .*a/a/a/.*; correct the path"),
        ({"mine": f'extends = "{"x" * 5000}"'}, "mine.toml extends .*xxx.*; correct the path"),
        ({"mine": "extends = 3"}, "extends is 3; give the path of a TOML file, or a list of them"),
        ({"mine": 'extends = ["base.toml", 3]', "base": BASE}, "give the path of a TOML file"),
        ({"mine": 'extends = "bad.toml"', "bad": "[model"}, "bad.toml is not TOML"),
        ({"mine": 'extends = "bad.toml"', "bad": '[model]\nlosss = "x"'}, "bad.toml: .* did you mean 'loss'"),
        ({"mine": f'{BASE}[fit]\nextends = "base.toml"'}, "'extends', which belongs at the top of the file"),
        ({"mine": f'extend = "base.toml"\n{BASE}'}, "did you mean 'extends'"),
    ],
)
def test_a_wrong_extends_is_one_sentence(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(written(tmp_path, **files))


def test_files_that_double_at_each_level_are_refused(tmp_path: Path) -> None:
    levels = {f"level{i}": f'extends = ["level{i + 1}.toml", "level{i + 1}.toml"]' for i in range(40)}
    path = written(tmp_path, **levels, level40=BASE)
    with pytest.raises(ConfigError, match="over 100 files"):
        read_config(path)


def test_files_that_are_large_together_are_refused(tmp_path: Path) -> None:
    large = "#" * 2**19
    path = written(tmp_path, mine='extends = ["a.toml", "b.toml", "c.toml"]', a=large, b=large, c=BASE)
    with pytest.raises(
        ConfigError, match=r"b.toml and the files before it are larger than 1,024 KiB together"
    ):
        read_config(path)


def test_what_is_there_and_is_not_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    os.mkfifo(tmp_path / "fifo.toml")
    for name, reason in {
        "loop.toml": "cannot be read: Too many levels of symbolic links; correct the path",
        "fifo.toml": "is a FIFO; name a TOML file",
        "..": "is a directory; name a TOML file",
        "/dev/null": "is a device; name a TOML file",
        "x" * 300: "cannot be read: File name too long; correct the path",
    }.items():
        path = tmp_path / name
        with pytest.raises(ConfigError, match=rf"mine.toml extends '{name}', and '{path}' {reason}$"):
            read_config(written(tmp_path, mine=f'extends = "{name}"'))


def test_home_folder_and_addresses_are_as_for_other_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = written(tmp_path, mine='extends = "~/base.toml"', home__base=BASE)
    assert read_config(path).data["batch_size"] == 8
    with pytest.raises(ConfigError, match=r"extends is 's3://b/k', which is an address; give a path"):
        read_config(written(tmp_path, mine='extends = "s3://b/k"'))


def test_files_that_are_removed_while_they_are_read_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, mine='extends = ["a.toml", "b.toml"]', a="", b="[data]\nbatch_size = 3\n")
    read = documents.read_ordinary

    def read_and_remove(path: Path, most: int) -> bytes:
        content = read(path, most)
        for file in tmp_path.glob("[ma]*.toml"):
            file.unlink()
        return content

    monkeypatch.setattr(documents, "read_ordinary", read_and_remove)
    with pytest.raises(ConfigError, match="mine.toml extends 'a.toml', and there is no file"):
        read_config(path)
    path = written(tmp_path, mine='extends = "b.toml"')
    with pytest.raises(ConfigError, match="no 'nn_module'"):
        read_config(path)


def test_a_file_that_extends_itself_by_another_name_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, mine='extends = "linked.toml"')
    (tmp_path / "linked.toml").hardlink_to(path)
    with pytest.raises(ConfigError, match="mine.toml extends itself: .*mine.toml -> .*linked.toml"):
        read_config(path)
