"""Which values a configuration takes, from its file and from the command line."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from argus_core.config import Config, parse_value, read_config, resolved_toml
from argus_core.errors import ConfigError

pytestmark = pytest.mark.torchfree

TEXT = """
[model]
nn_module = ["cnn", { classes = 10 }]
loss = "CrossEntropyLoss"
optimizer = ["AdamW", { lr = 2e-3 }]
[data]
train = ["digits", { split = "train" }]
"""


def read(tmp_path: Path, text: str, *changes: str) -> Config:
    path = tmp_path / "a.toml"
    path.write_text(text, "utf-8")
    return read_config(path, changes)


# Files.


@pytest.mark.parametrize("sort", ["FIFO", "link", "socket", "device", "endless device", "directory"])
def test_only_ordinary_files_are_read(tmp_path: Path, sort: str) -> None:
    path = tmp_path / "a.toml"
    if sort == "FIFO":
        os.mkfifo(path)
    elif sort == "link":
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    elif sort == "socket":
        with closing(socket.socket(socket.AF_UNIX)) as server:
            server.bind(str(path))
    elif sort == "directory":
        path.mkdir()
    else:
        path = Path("/dev/null" if sort == "device" else "/dev/zero")
    what = {"link": "FIFO", "endless device": "device"}.get(sort, sort)
    with pytest.raises(ConfigError, match=f"is a {what}; it must be an ordinary file"):
        read_config(path)


def test_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "real").write_text(TEXT, "utf-8")
    (tmp_path / "a.toml").symlink_to(tmp_path / "real")
    assert read_config(tmp_path / "a.toml").fit["run_dir"] == "runs/a"


def test_file_that_claims_a_terabyte_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.touch()
    os.truncate(path, 2**40)
    with pytest.raises(ConfigError, match=r"is larger than 1,024 KiB"):
        read_config(path)


def test_path_with_a_nul_character_is_refused() -> None:
    with pytest.raises(ConfigError, match="holds a character that no path can hold; leave it out"):
        read_config(Path("a\0.toml"))


def test_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff" + TEXT) == read(tmp_path, TEXT)


def test_file_in_utf16_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(TEXT, "utf-16")
    with pytest.raises(ConfigError, match=r"a\.toml cannot be read: .*; give a TOML file in UTF-8"):
        read_config(tmp_path / "a.toml")


# Numbers and strings.


@pytest.mark.parametrize(
    ("key", "least", "most"),
    [
        ("data.batch_size", 1, 2**31 - 1),
        ("data.val_batch_size", 1, 2**31 - 1),
        ("data.num_workers", 0, 256),
        ("fit.num_epochs", 1, 2**31 - 1),
        ("fit.num_threads", 1, 1024),
        ("fit.seed", 0, 2**64 - 1),
    ],
)
def test_numbers_have_bounds(tmp_path: Path, key: str, least: int, most: int) -> None:
    section, _, name = key.partition(".")
    for value in (least, most):
        assert getattr(read(tmp_path, TEXT, f"{key}={value}"), section)[name] == value
    for value in (least - 1, most + 1 if most < 2**63 else -(2**63), "true", "nan", "inf", "1.0", "'1'"):
        with pytest.raises(
            ConfigError, match=rf"\[{section}\] {name} is .*; give a whole number from {least} to"
        ):
            read(tmp_path, TEXT, f"{key}={value}")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("0x" + 5000 * "f", "is an integer of 20,000 bits, more than 64"),
        (str(2**64), "is an integer of 65 bits"),
        (str(-(2**63) - 1), "is an integer of 64 bits"),
        ("2024-01-01", "is a date or time, which no parameter takes; write the text in quotes: '2024-01-01'"),
        ("12:30:00", "is a date or time"),
        ('"a\\u0000b"', "contains a NUL character"),
        ('{ "a\\u0000b" = 1 }', "contains a NUL character"),
    ],
)
@pytest.mark.parametrize("place", ["optimizer.lr", "train[1].root[0].x"])
def test_value_that_no_parameter_takes_is_named_by_its_key(
    tmp_path: Path, value: str, problem: str, place: str
) -> None:
    if place == "optimizer.lr":
        text = f"[model.optimizer]\nlr = {value}"
        place = "model.optimizer.lr"
    else:
        text = f'[data]\ntrain = ["digits", {{ root = [{{ x = {value} }}] }}]'
        place = "data.train[1].root[0].x"
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert f"a.toml: {place} {problem}" in str(caught.value)


def test_tables_of_tables_are_not_nested_without_end(tmp_path: Path) -> None:
    deep = "a." * 60 + "b = { " + "a." * 60 + "b = 1 }"
    with pytest.raises(ConfigError, match="is nested deeper than 64 levels; make it flatter"):
        read(tmp_path, "[model]\n" + deep)


@pytest.mark.parametrize("device", [str(2**63), "-1", "[1, true]"])
def test_device_that_cannot_be_is_refused(tmp_path: Path, device: str) -> None:
    with pytest.raises(ConfigError, match="device is .*; give a device such as 'auto'"):
        read(tmp_path, TEXT, f"device={device}")


@pytest.mark.parametrize("address", ["s3://bucket/runs", "file:///runs", "hdfs:/runs"])
def test_run_directory_that_is_an_address_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match=f"run_dir is '{address}', which is an address; give a path on"):
        read(tmp_path, TEXT + f'[fit]\nrun_dir = "{address}"')


def test_cadence_beyond_all_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="checkpoint_every is '9*[^']*'; give epochs, updates, minutes or hours"
    ):
        read(tmp_path, TEXT, f"checkpoint_every='{400 * '9'}min'")


# Paths.


def test_run_directory_may_be_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    config = read(tmp_path, TEXT + '[fit]\nrun_dir = "~/runs/x"')
    assert config.fit["run_dir"] == str(tmp_path / "home/runs/x")
    assert "~" not in resolved_toml(config)
    assert read(tmp_path, TEXT, "run_dir=~/y").fit["run_dir"] == str(tmp_path / "home/y")


def test_home_folder_of_a_user_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"run_dir is '~no-such-user/x', which begins with '~no-such-user', which"
    ):
        read(tmp_path, TEXT, "run_dir=~no-such-user/x")


# On the command line.


@pytest.mark.parametrize(
    ("text", "action"),
    [
        *((word, "has no null value; omit the parameter") for word in ("None", "NONE", "null", "nil")),
        *((word, "write true; ") for word in ("yes", "on", "On", "TRUE", "tRue")),
        *((word, "write false; ") for word in ("no", "off", "OFF", "FALSE")),
        (".001", r"write 0\.001; "),
        ("1.e-3", r"write 0\.001; "),
        ("-.5", r"write -0\.5; "),
        ("5.", r"write 5\.0; "),
        ("007", "write 7; "),
        ("0X1F", "write 31; "),
        ("NaN", "write nan; "),
        ("-Infinity", "write -inf; "),
        ("(0.9, 0.99)", r"write a list, \[0\.9, 0\.99\]; "),
        ("(2,)", r"write a list, \[2\]; "),
        ("1,5", r"write a number .* a list \(\[0, 1\]\); "),
        ("1e400", "write a number that 64 bits hold"),
        ("9" * 5000, "write a number that 64 bits hold"),
    ],
)
def test_what_looks_like_a_value_and_is_none_says_how_to_write_it(text: str, action: str) -> None:
    with pytest.raises(ConfigError, match=action) as caught:
        parse_value(text, f"--set optimizer.lr={text}")
    assert f"for the text itself write '\"{text[:40]}" in str(caught.value)
    if len(text) < 40:
        assert parse_value(f'"{text}"', "--set") == text


@pytest.mark.parametrize("text", ["2024-01-01", "2024-01-01T10:00:00", "12:30:00"])
def test_date_on_the_command_line_is_refused(text: str) -> None:
    with pytest.raises(
        ConfigError, match=f"{text} is a date or time, which no parameter takes; for the text"
    ):
        parse_value(text, "--set split")


@pytest.mark.parametrize(
    "text",
    [
        "2ep",
        "500up",
        "10%",
        "2.5%",
        "cuda:0",
        "3d",
        "runs/2024",
        "0x",
        "2024-01",
        "nonesuch",
        "none",
        "(a)",
        "(a), (b",
    ],
)
def test_text_that_only_begins_like_a_number_is_text(text: str) -> None:
    assert parse_value(text, "--set") == text


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    for change in ("run_dir=\udcff", "optimizer.\udcff=1"):
        with pytest.raises(ConfigError, match="contains bytes that are not UTF-8"):
            read(tmp_path, TEXT, change)


def test_key_of_thousands_of_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the key has 10,001 parts; give at most 64"):
        read(tmp_path, TEXT, "optimizer." + "a." * 9999 + "a=1")


def test_changes_are_bounded_as_files_are(tmp_path: Path) -> None:
    changes: list[Any] = ["optimizer.lr=0x" + "f" * 400, "data.num_workers=9223372036854775808"]
    for change in changes:
        with pytest.raises(ConfigError, match="is an integer of .* bits|from 0 to 256"):
            read(tmp_path, TEXT, change)
