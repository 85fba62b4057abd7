"""Cadences: every so many epochs, updates, minutes or hours."""

from __future__ import annotations

import pytest

from argus_core import ParamsError
from argus_core.callbacks.cadence import Cadence, parse_cadence

pytestmark = pytest.mark.torchfree


@pytest.mark.parametrize(
    ("written", "cadence"),
    [
        ("2ep", Cadence(2, "ep")),
        (" 500 up", Cadence(500, "up")),
        ("0.5min", Cadence(0.5, "min")),
        ("3h", Cadence(180, "min")),
    ],
)
def test_cadence_is_a_count_and_a_unit(written: str, cadence: Cadence) -> None:
    assert parse_cadence("checkpoint", written) == cadence


@pytest.mark.parametrize(
    "written", ["often", "0ep", "1.5up", "-1ep", "0h", "nanmin", 3, True, float("nan"), None]
)
def test_anything_else_names_callback_argument_and_value(written: object) -> None:
    with pytest.raises(
        ParamsError, match=r"^tensorboard has samples=.*; give epochs, updates, minutes or hours"
    ):
        parse_cadence("tensorboard", written, "samples")
