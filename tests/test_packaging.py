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
    tools = [{"include-group": "build"}, "hypothesis", "pytest", "pytest-xdist"]
    assert [*needed, *tools] == pyproject["dependency-groups"]["torchfree"]


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


def test_core_plugins_and_citation_have_one_version(pyproject: dict[str, Any]) -> None:
    versions = {
        path: tomllib.loads(path.read_text("utf-8"))["project"]["version"]
        for path in ROOT.glob("plugins/argus-*/pyproject.toml")
    }
    assert set(versions.values()) == {pyproject["project"]["version"]}, versions
    assert f"\nversion: {pyproject['project']['version']}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_pre_commit_has_the_ruff_of_the_constraints() -> None:
    pinned = re.findall(r"^ruff==.+$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    hooks = re.findall(r'"(ruff==.+?)"', (ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    assert set(hooks) == set(pinned)
