"""The names of checkpoint files: plain ones, formats, and formats whose names may coincide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from argus_core.callbacks.names import FileFormat, is_plain_name, may_coincide
from argus_core.errors import ArgusError, ParamsError

pytestmark = pytest.mark.torchfree


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../x", "a/../../x", "/etc/passwd", "a/b", "a//b", "x\0", "x\n", "\x1b[2J"),
        *("a" * 256, "\udc80", 5, None, ["x"], "~/../x", "a/"),
    ],
)
def test_what_is_no_name_of_a_file_in_a_folder(name: Any) -> None:
    assert not is_plain_name(name)


@pytest.mark.parametrize("name", ["model-000.safetensors", "..a", "~", "best of all.pth", "é", "-"])
def test_plain_names(name: str) -> None:
    assert is_plain_name(name)


def test_names_in_folders_are_plain_where_the_format_has_folders() -> None:
    assert is_plain_name("best/model.safetensors", folders=1)
    assert not is_plain_name("best/../model.safetensors", folders=2)
    assert not is_plain_name("a/b/c", folders=1)


@pytest.mark.parametrize("text", ["../{epoch}.safetensors", "/tmp/{epoch}", "a//{epoch}", "x\0{epoch}", "a/"])
def test_formats_whose_names_lie_elsewhere_are_refused(text: str) -> None:
    with pytest.raises(
        ParamsError, match=r"checkpoint has file_format=.*names must be plain and lie in dir_p"
    ):
        FileFormat("checkpoint", text)


def test_metric_that_is_a_path_gives_no_name() -> None:
    with pytest.raises(ArgusError, match=r"gives the name '\.\./\.\./x'; names must be plain and lie in"):
        FileFormat("checkpoint", "{where}").name({"where": "../../x"})


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("model-{epoch:03d}.safetensors", "model-{epoch:03d}.safetensors", True),
        ("model-{epoch:03d}.safetensors", "model-{step:06d}.safetensors", True),
        ("last.safetensors", "last.safetensors", True),
        ("{val_loss}.safetensors", "last.safetensors", True),
        ("best/{epoch}", "best/{step}", True),
        ("model-{epoch:03d}.safetensors", "model-{epoch:03d}-{monitor:.6f}.safetensors", False),
        ("model-{epoch:03d}.safetensors", "model-{epoch:03d}-{step:06d}.safetensors", False),
        ("last.safetensors", "best.safetensors", False),
        ("{val_loss:.2f}.safetensors", "{epoch}.safetensors", False),
        ("{val_loss}", "best/{epoch}", False),
        ("{val_loss}-a", "{val_loss}-b", False),
    ],
)
def test_formats_whose_names_may_coincide(one: str, other: str, expected: bool, tmp_path: Path) -> None:
    patterns = [FileFormat("checkpoint", text).pattern(tmp_path) for text in (one, other)]
    assert may_coincide(*patterns) is may_coincide(*reversed(patterns)) is expected


def test_a_format_with_a_folder_is_that_of_the_folder_itself(tmp_path: Path) -> None:
    inside = FileFormat("checkpoint", "{epoch}.safetensors").pattern(tmp_path / "best")
    assert may_coincide(FileFormat("checkpoint", "best/{epoch}.safetensors").pattern(tmp_path), inside)
    assert not may_coincide(FileFormat("checkpoint", "{epoch}.safetensors").pattern(tmp_path), inside)


@pytest.mark.parametrize("folders", [33, 400])
def test_format_through_folders_without_end_is_refused(folders: int) -> None:
    with pytest.raises(ParamsError, match=f"which is {folders:,} folders deep; at most 32 are allowed"):
        FileFormat("checkpoint", "a/" * folders + "{epoch}")
    assert FileFormat("checkpoint", "a/" * 32 + "{epoch}").folders == 32


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{epoch}" * 200, r"it has 1,400 characters; at most 1,000 are allowed"),
        ("a/" * 100_000 + "{epoch}", r"it has 200,007 characters"),
        ("{epoch}" * 65, r"it has 65 fields; at most 64 are allowed"),
        ("{epoch:01999999999d}", r"the field 'epoch' is wider than 255 characters"),
        ("{val_loss:.1999999999f}", r"the field 'val_loss' is wider than 255 characters"),
        (
            "{epoch:0\u0669\u0669\u0669\u0669\u0669\u0669\u0669\u0669\u0669d}",
            r"the field 'epoch' is wider than",
        ),
        ("{epoch:{step}}", r"the field 'epoch' has more than a format such as ':03d'"),
        ("{epoch!s:.0}a", r"the field 'epoch' has more than a format such as ':03d'"),  # its text is empty
    ],
)
def test_format_that_takes_far_more_than_a_name_is_refused(text: str, reason: str) -> None:
    with pytest.raises(
        ParamsError, match=rf"checkpoint has file_format='.*is not a valid format \({reason}"
    ) as caught:
        FileFormat("checkpoint", text)
    assert len(str(caught.value)) < 500


def test_names_are_compared_with_many_fields_in_time_that_is_no_power_of_them() -> None:
    text = FileFormat("checkpoint", "{epoch}" * 64 + ".safetensors")
    assert text.matches("0" * 64 + ".safetensors")
    assert text.matches("0" * 200 + ".safetensors")
    assert not text.matches("0" * 63 + ".safetensors")
    assert not text.matches("0" * 240 + "x")
    assert not text.matches("0" * 64 + "/.safetensors")
