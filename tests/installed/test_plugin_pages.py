"""The pages of plugins keep their word: their code runs, with core and plugins installed as wheels."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pages
import pytest

PAGES = [*sorted((pages.DOCS / "plugins").glob("*.md")), *pages.WITH_PLUGINS]
OPERATORS = pages.ROOT / "plugins/torchvision_operators"


@pytest.fixture(scope="module", autouse=True)
def torchvision_imports() -> Iterator[None]:
    """Declare what a torchvision for CUDA misses beside a torch for CPUs; torchmetrics imports it, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(OPERATORS)
        importlib.import_module("torchvision_operators").declare_missing_operators()
        yield


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_a_plugins_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pages.run(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_of_a_plugins_page_are_those_of_argus(page: Path) -> None:
    for command in pages.commands(page):
        pages.parse_command(command)


def test_there_are_pages() -> None:
    assert PAGES
