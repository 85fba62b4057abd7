"""The code of the README runs, and the plugin's page tells of all that there is."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from typing import Any

import pytest

from argus_tensorboard.callback import TensorBoard

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "plugins" / "argus-tensorboard.md"
README = Path(__file__).parents[1] / "README.md"


def _runner() -> Any:
    """Return the module that runs the pages of the core's documentation."""
    spec = importlib.util.spec_from_file_location("argus_pages", ROOT / "tests" / "support" / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The page's own code is run by tests/installed/test_plugin_pages.py, with those of all plugins.
def test_code_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = _runner()
    for command in runner.commands(README):
        runner.parse_command(command)
    runner.run(README)


@pytest.mark.parametrize("parameter", list(inspect.signature(TensorBoard).parameters))
def test_every_parameter_is_documented(parameter: str) -> None:
    assert f"    {parameter}: " in (inspect.getdoc(TensorBoard) or "").replace("\n", "\n    ")
    assert f"`{parameter}" in PAGE.read_text("utf-8") or f"\n{parameter} = " in PAGE.read_text("utf-8")
