"""Which sections a manifest has stands in one table, beside the page that tells what each one holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from argus_core.checkpoint.records import record_of, records_of
from argus_core.checkpoint.sections import SECTIONS, check_sections
from argus_core.errors import UnsafeCheckpointError

pytestmark = pytest.mark.torchfree

PAGE = Path(__file__).parents[2] / "docs/reference/checkpoint-format.md"
OF_THE_STORAGE = {"tensors", "aliases"}
SOUND: dict[str, Any] = {
    "schema": 1,
    "model": record_of("Model", None),
    "params": {},
    "components": {"nn_module": record_of("net", None), "loss": None, "step": []},
    "extra": {},
}


def test_the_page_of_the_format_has_a_row_for_every_section() -> None:
    table = PAGE.read_text("utf-8").partition("## Manifest")[2].partition("A record identifies")[0]
    assert {*re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)} == {*SECTIONS, *OF_THE_STORAGE}


@pytest.mark.parametrize(
    ("section", "value"),
    [
        *((section, None) for section in ("model", "params", "components", "extra")),
        *((section, 5) for section in ("optimizer", "modes", "step_state", "evaluated")),
        ("optimizer", {"state": {}}),
        ("modes", {"nn_module": "1"}),
        ("modes", {"nn_module": [1]}),
        ("evaluated", {"ema": 1}),
    ],
)
def test_a_section_of_another_form_is_named(section: str, value: Any) -> None:
    check_sections(SOUND, Path("a.safetensors"))
    with pytest.raises(UnsafeCheckpointError, match=f"a.safetensors: the manifest's '{section}' is not as"):
        check_sections({**SOUND, section: value}, Path("a.safetensors"))


@pytest.mark.parametrize("section", ["schema", "model", "params", "components", "extra"])
def test_a_section_that_every_file_has_is_missed(section: str) -> None:
    left = {name: value for name, value in SOUND.items() if name != section}
    with pytest.raises(UnsafeCheckpointError, match=f"the manifest's '{section}' is not as"):
        check_sections(left, Path("a.safetensors"))


def test_records_are_read_as_they_are_written() -> None:
    assert records_of(SOUND, Path("a")) == [("model", SOUND["model"]), ("nn_module", record_of("net", None))]
    for components in ({"step": 5}, {"loss": {"as": "a"}}, {"loss": {**record_of("a", None), "version": 5}}):
        with pytest.raises(UnsafeCheckpointError, match="the manifest's 'components' is not as"):
            records_of({**SOUND, "components": components}, Path("a"))
