"""The plugin's page tells of all that there is."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from argus_plots.confusion import ConfusionMatrix
from argus_plots.curves import Curves

PAGE = Path(__file__).parents[3] / "docs" / "plugins" / "argus-plots.md"
PARAMETERS = [
    (each, parameter)
    for each in (Curves, ConfusionMatrix)
    for parameter in inspect.signature(each).parameters
]


# The page's own code is run by tests/installed/test_plugin_pages.py, with those of all plugins.
@pytest.mark.parametrize(("callback", "parameter"), PARAMETERS)
def test_every_parameter_is_documented(callback: type, parameter: str) -> None:
    assert f"    {parameter}: " in (inspect.getdoc(callback) or "").replace("\n", "\n    ")
    assert f"`{parameter}" in PAGE.read_text("utf-8")
