"""Validation sets by name in a configuration: how they are written, changed and merged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import argus_core
from argus_core.config import Config, read_config, resolved_toml, validation_phases
from argus_core.errors import ConfigError

pytestmark = pytest.mark.torchfree

BASE = """
[model]
nn_module = "cnn"
loss = "CrossEntropyLoss"
optimizer = "SGD"
[data]
train = "digits"
"""
SETS = 'val = { clean = ["digits", { split = "val" }], noisy = ["digits", { noise = 0.1 }] }\n'
PARSED = {"clean": ("digits", {"split": "val"}), "noisy": ("digits", {"noise": 0.1})}


def read(tmp_path: Path, text: str, *changes: str) -> Config:
    path = tmp_path / "sets.toml"
    path.write_text(text, "utf-8")
    return read_config(path, changes)


@pytest.mark.parametrize(
    "written",
    [
        SETS,
        'val.clean = ["digits", { split = "val" }]\nval.noisy = ["digits", { noise = 0.1 }]\n',
        '[data.val]\nclean = ["digits", { split = "val" }]\nnoisy = { name = "digits", noise = 0.1 }\n',
        '[data.val.clean]\nname = "digits"\nsplit = "val"\n[data.val.noisy]\nname = "digits"\nnoise = 0.1\n',
    ],
)
def test_sets_are_read_from_each_way_to_write_them(tmp_path: Path, written: str) -> None:
    config = read(tmp_path, BASE + written)
    assert config.data["val"] == PARSED
    assert config.fit["monitor"] == "val_clean_loss"
    assert validation_phases(config.data) == ["val_clean", "val_noisy"]
    assert [(place, spec.params) for _, place, spec in config.specs("data")][1:] == [
        ("[data] val.clean", {"split": "val"}),
        ("[data] val.noisy", {"noise": 0.1}),
    ]
    assert read(tmp_path, resolved_toml(config)) == config


def test_a_set_of_a_name_alone_survives_the_resolved_configuration(tmp_path: Path) -> None:
    config = read(tmp_path, BASE + 'val = { plain = ["digits"], other = { name = "digits" } }\n')
    assert config.data["val"] == {"plain": ("digits", {}), "other": ("digits", {})}
    assert read(tmp_path, resolved_toml(config)) == config


@pytest.mark.parametrize(
    "written", ['"digits"', '["digits", { split = "val" }]', '{ name = "digits", split = "val" }']
)
def test_a_single_set_is_what_it_was(tmp_path: Path, written: str) -> None:
    config = read(tmp_path, BASE + f"val = {written}\n")
    assert config.fit["monitor"] == "val_loss"
    assert validation_phases(config.data) == ["val"]
    assert validation_phases(read(tmp_path, BASE).data) == []


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            '{ split = "val" }',
            r"\[data\] val is a table without a name, and its 'split' is 'val'; give the table the ",
        ),
        (
            '{ clean = "digits" }',
            r"its 'clean' is 'digits'; give the table the name of a dataset, or of datasets",
        ),
        ('{ "my set" = ["digits"] }', r"\[data\] val is a table without a name, and its 'my set' is"),
        ("{ clean = { split = 1 } }", r"\[data\] val.clean is \{'split': 1\}; give a name"),
        ("{ clean = [] }", r"\[data\] val.clean is \[\]; give a name"),
        ("{}", r"\[data\] val is \{\}; give a name"),
        ('[["digits"], ["digits"]]', r"\[data\] val is \[\['digits'\], \['digits'\]\]; give a name"),
    ],
)
def test_a_table_of_something_else_is_refused(tmp_path: Path, written: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, BASE + f"val = {written}\n")


def test_changes_of_the_command_line_set_parameters_and_sets(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        BASE + SETS,
        "data.val.noisy.noise=0.3",
        'val.third=["digits", { split = "test" }]',
        'val.clean={ name = "wine" }',
        "val.clean.split=test",
    )
    assert config.data["val"] == {
        "clean": ("wine", {"split": "test"}),
        "noisy": ("digits", {"noise": 0.3}),
        "third": ("digits", {"split": "test"}),
    }
    assert read(tmp_path, BASE + SETS, "val=digits").data["val"] == "digits"
    with pytest.raises(ConfigError, match=r"\[data\] val has no set 'nosy'; did you mean 'noisy'\?"):
        read(tmp_path, BASE + SETS, "val.nosy.noise=0.3")
    with pytest.raises(
        ConfigError, match=r"\[data\] val has the sets clean, noisy; to have one dataset, set it w"
    ):
        read(tmp_path, BASE + SETS, "val.name=digits")
    with pytest.raises(ConfigError, match=r"its 'third' is 'digits'; give the table"):
        read(tmp_path, BASE + SETS, "val.third=digits")


@pytest.fixture
def _template() -> Iterator[None]:
    def sets() -> dict[str, Any]:
        return {
            "model": {"nn_module": "cnn", "loss": "CrossEntropyLoss", "optimizer": "SGD"},
            "data": {"train": "digits", "val": PARSED},
        }

    with argus_core.isolated_registry(builtins=True):
        argus_core.register("config", "sets", sets)
        yield


@pytest.mark.usefixtures("_template")
def test_a_file_changes_the_sets_of_its_template(tmp_path: Path) -> None:
    text = 'template = "sets"\n[data.val.noisy]\nnoise = 0.5\n[data.val.third]\nname = "digits"\n'
    config = read(tmp_path, text)
    assert config.data["val"] == {**PARSED, "noisy": ("digits", {"noise": 0.5}), "third": ("digits", {})}
    assert read(tmp_path, 'template = "sets"\n[data]\nval = "wine"\n').data["val"] == "wine"
    assert read(tmp_path, 'template = "sets"\n').data["val"] == PARSED
