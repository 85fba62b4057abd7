"""The code of the plugin's pages runs, and they tell of all that there is."""

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
    spec = importlib.util.spec_from_file_location("argus_pages", ROOT / "tests" / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", [PAGE, README], ids=lambda page: page.name)
def test_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = _runner()
    for command in runner.commands(page):
        runner.parse_command(command)
    runner.run(page)


@pytest.mark.parametrize("parameter", list(inspect.signature(TensorBoard).parameters))
def test_every_parameter_is_documented(parameter: str) -> None:
    assert f"    {parameter}: " in (inspect.getdoc(TensorBoard) or "").replace("\n", "\n    ")
    assert f"`{parameter}" in PAGE.read_text("utf-8") or f"\n{parameter} = " in PAGE.read_text("utf-8")
