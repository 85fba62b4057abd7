"""The split of ``[data]``, and its keys that exclude each other, are checked when a configuration is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import argus_core
from argus_core.config import Config, read_config, resolved_toml
from argus_core.errors import ConfigError

pytestmark = pytest.mark.torchfree

FILE = """
[model]
nn_module = "net"
loss = "CrossEntropyLoss"
optimizer = "SGD"
[data]
train = "digits"
"""


def read(folder: Path, text: str, *changes: str) -> Config:
    path = folder / "digits.toml"
    path.write_text(FILE + text)
    return read_config(path, changes)


def test_a_split_has_its_defaults_and_is_kept_with_the_run(tmp_path: Path) -> None:
    config = read(tmp_path, "split = { val = 0.2 }")
    assert config.data["split"] == {"val": 0.2, "seed": 0, "stratify": False}
    path = tmp_path / "kept.toml"
    path.write_text(resolved_toml(config))
    assert read_config(path).data == config.data


def test_a_split_with_validation_data_is_monitored(tmp_path: Path) -> None:
    assert read(tmp_path, "split = { val = 10 }").fit["monitor"] == "val_loss"
    assert read(tmp_path, "split = { test = 10 }").fit["monitor"] == "train_loss"


def test_one_value_of_a_split_can_be_changed(tmp_path: Path) -> None:
    changed = read(tmp_path, "split = { val = 0.2 }", "split.seed=4", "data.split.val_params.noise=0.5")
    assert changed.data["split"] == {"val": 0.2, "seed": 4, "stratify": False, "val_params": {"noise": 0.5}}
    assert read(tmp_path, "", "split.val=7").data["split"]["val"] == 7


def test_a_file_changes_the_split_of_its_template(tmp_path: Path) -> None:
    with argus_core.isolated_registry():
        argus_core.register("config", "base", lambda: {"data": {"split": {"val": 0.2, "stratify": True}}})
        path = tmp_path / "digits.toml"
        path.write_text(f'template = "base"\n{FILE}split.seed = 3\n')
        assert read_config(path).data["split"] == {"val": 0.2, "stratify": True, "seed": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("split = 0.2", r"split is 0.2; give a table such as { val = 0.2 }"),
        ("split = { seed = 1 }", "split has neither val nor test; give a share of train"),
        ("split = { vall = 0.2 }", "split has 'vall'; did you mean 'val'"),
        ("split = { val = 0.2, zzz = 1 }", "split has 'zzz'; it takes val, test, seed, stratify, val_params"),
        *(
            (f"split = {{ val = {value} }}", rf"split.val is {shown}; give a share .*, or a whole number")
            for value, shown in (
                ("0", "0"), ("0.0", "0.0"), ("1.0", "1.0"), ("-0.1", "-0.1"), ("nan", "nan"),
                ("true", "True"), ('"a"', "'a'"), ("[1]", r"\[1\]"),
            )
        ),
        ("split = { val = 0.5, test = 0.5 }", r"split gives 0.5 \+ 0.5 of train away, which leaves no"),
        ("split = { val = 0.2, seed = -1 }", r"split.seed is -1; give a whole number from 0 to 2\*\*32 - 1"),
        ("split = { val = 0.2, seed = 4294967296 }", "split.seed is 4294967296; give a whole number"),
        ("split = { val = 0.2, stratify = 1 }", "split.stratify is 1; give true or false"),
        ("split = { val = 0.2, val_params = 1 }", "split.val_params is 1; give a table of parameters"),
    ],
)  # fmt: skip
def test_a_wrong_split_is_named_with_the_next_action(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"digits\.toml: \[data\] {message}"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'val = "digits"\nsplit = { val = 0.2 }',
            "has both val and split.val, which are two .*; leave one",
        ),
        ('test = "digits"\nsplit = { val = 0.2, test = 1 }', "has both test and split.test"),
        (
            'sampler = "class_balanced"\nshuffle = true',
            "has a sampler and shuffle = true; .* leave",
        ),
        (
            "persistent_workers = true",
            "persistent_workers is True, and num_workers is 0, .*; set num",
        ),
        (
            "prefetch_factor = 2",
            "prefetch_factor is 2, and num_workers is 0, .*, or leave",
        ),
        ("pin_memory = 'yes'", "pin_memory is 'yes'; give true, false or 'auto'"),
        ("num_workers = 1\nprefetch_factor = 0", "prefetch_factor is 0; give a whole number from 1 to 1024"),
    ],
)
def test_keys_that_exclude_each_other_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"digits\.toml: \[data\] {message}"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        'val = "digits"\nsplit = { test = 0.2 }',
        'sampler = "class_balanced"',
        'sampler = "class_balanced"\nshuffle = false',
        "persistent_workers = false",
        "num_workers = 2\npersistent_workers = true\nprefetch_factor = 4",
    ],
)
def test_keys_that_go_together_are_taken(tmp_path: Path, text: str) -> None:
    data: Any = read(tmp_path, text).data
    assert data["shuffle"] is ("sampler" not in data)
