"""The code of the plugin's pages runs, and they tell of all that there is."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from cases import CASES, NEEDS

from argus_torchmetrics.catalogue import DOMAINS

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "plugins" / "argus-torchmetrics.md"
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


def _rows(heading: str) -> dict[str, set[str]]:
    section = PAGE.read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `?([\w-]+)`? \| (`.*`) \|$", section, re.MULTILINE)
    return {first: set(re.findall(r"`(\w+)`", names)) for first, names in rows}


def test_every_name_stands_in_the_list_of_its_domain() -> None:
    listed = _rows("All names")
    assert set(listed) == set(DOMAINS)
    assert set().union(*listed.values()) == CASES.keys() | NEEDS.keys()
    assert sum(map(len, listed.values())) == len(CASES) + len(NEEDS)


def test_what_a_metric_needs_is_listed() -> None:
    listed = {name: package for package, names in _rows("What some need").items() for name in names}
    assert listed == {name: package for name, (_, package) in NEEDS.items()}


def test_the_readme_counts_them() -> None:
    assert f"{len(CASES) + len(NEEDS)} of them" in README.read_text("utf-8")
