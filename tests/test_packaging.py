"""The repository's own files agree with each other and with what is installed."""

from __future__ import annotations

import re
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = pytest.mark.torchfree

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_installed_entry_points_are_those_of_pyproject(pyproject: dict[str, Any]) -> None:
    declared = {
        (group, name, target)
        for group, targets in pyproject["project"]["entry-points"].items()
        for name, target in targets.items()
    }
    installed = distribution("argus-torch").entry_points
    assert {
        (entry.group, entry.name, entry.value) for entry in installed if entry.group != "console_scripts"
    } == declared


def test_torch_free_environments_hold_every_dependency_but_torch(pyproject: dict[str, Any]) -> None:
    needed = [text for text in pyproject["project"]["dependencies"] if not text.startswith("torch")]
    assert [*needed, "hypothesis", "pytest"] == pyproject["dependency-groups"]["torchfree"]


def test_metadata_never_caps_torch(pyproject: dict[str, Any]) -> None:
    assert "torch>=2.10" in pyproject["project"]["dependencies"]


def test_ci_runs_the_test_command_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    command = re.search(r"<!-- test-command -->\s*```\w*\n(.+?)\n```", readme, re.DOTALL)
    assert command is not None, "README.md marks its second command with <!-- test-command -->"
    assert (ROOT / ".ci/run").read_text("utf-8").splitlines()[-1] == command[1]


@pytest.mark.parametrize(
    "fragment", sorted((ROOT / "docs/changelog.d").glob("*.md")), ids=lambda path: path.name
)
def test_news_fragment_is_named_after_its_issue_and_type(fragment: Path, pyproject: dict[str, Any]) -> None:
    types = "|".join(kind["directory"] for kind in pyproject["tool"]["towncrier"]["type"])
    assert re.fullmatch(rf"(\d+|\+[a-z-]+)\.({types})(\.\d+)?\.md", fragment.name)
