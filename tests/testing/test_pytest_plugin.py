"""The fixtures for pytest, and that they cost nothing where nobody uses them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import argus_core
from argus_core.errors import ConfigError
from argus_core.registry.registry import Registry, active
from argus_core.testing import ComponentUnderTest
from argus_core.testing.parts import distribution_of, parts_of

pytestmark = pytest.mark.torchfree


def pytest_run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder with a configuration of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
    )  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a project that belongs to the built-in distribution, as far as its pyproject.toml says."""
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "Argus_Torch"\n[tool.pytest.ini_options]\nfilterwarnings = ["error"]\n', "utf-8"
    )
    return tmp_path


def write_test(project: Path, source: str) -> None:
    (project / "test_it.py").write_text(source, "utf-8")


def test_argus_component_is_each_part_of_the_project(project: Path) -> None:
    write_test(project, "def test_part(argus_component):\n    assert argus_component.kind\n")
    done = pytest_run(project, "--collect-only")
    assert "test_it.py::test_part[loss-MSELoss]" in done.stdout
    assert "test_it.py::test_part[step-sam]" in done.stdout
    assert done.stdout.count("test_part[") == len(parts_of("argus-torch"))


def test_the_distribution_can_be_configured(project: Path) -> None:
    (project / "pyproject.toml").write_text('[project]\nname = "another"\n', "utf-8")
    write_test(project, "def test_part(argus_component):\n    assert argus_component.kind\n")
    done = pytest_run(project, "--collect-only", "-o", "argus_distribution=argus-torch")
    assert "test_part[metric-accuracy]" in done.stdout


@pytest.mark.parametrize(
    ("pyproject", "message"),
    [
        ('[project]\nname = "nowhere"\n', "the package 'nowhere' is not installed; install it"),
        ('[project]\nname = "pytest"\n', "declares no components; declare them as entry points"),
        ("[tool.pytest.ini_options]\n", "has a [project] with a name; set argus_distribution in"),
    ],
)
def test_without_parts_the_collection_fails_with_a_reason(
    project: Path, pyproject: str, message: str
) -> None:
    (project / "pyproject.toml").write_text(pyproject, "utf-8")
    (project / "pytest.ini").write_text("[pytest]\n", "utf-8")
    write_test(project, "def test_part(argus_component):\n    pass\n")
    done = pytest_run(project)
    assert done.returncode != 0
    assert f"argus_component: {message}" in done.stdout or message in done.stdout


def test_pytest_starts_without_torch_and_without_warnings(project: Path) -> None:
    write_test(
        project,
        "import sys\n"
        "def test_it():\n"
        "    loaded = {name for name in sys.modules if name.startswith('argus_core')}\n"
        "    own = {f'argus_core.{name}' for name in ('lazy', 'testing', 'testing.pytest_plugin')}\n"
        "    assert loaded == {'argus_core', *own}\n"
        "    assert 'torch' not in sys.modules\n",
    )
    done = pytest_run(project, "-W", "error")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout
    assert done.stderr == ""


def test_the_fixtures_can_be_left_out(project: Path) -> None:
    write_test(project, "def test_part(argus_component):\n    pass\n")
    done = pytest_run(project, "-p", "no:argus")
    assert "fixture 'argus_component' not found" in done.stdout


def test_the_fixtures_are_listed_with_what_they_are(project: Path) -> None:
    done = pytest_run(project, "--fixtures")
    assert "Each component of the package under test" in done.stdout
    assert "A separate registry for the test" in done.stdout


def test_isolated_registry_holds_the_built_ins_and_forgets(isolated_registry: Registry) -> None:
    argus_core.register("loss", "mine", dict)
    assert active() is isolated_registry
    assert {"mine", "MSELoss"} <= set(argus_core.names("loss"))
    assert "focal" not in argus_core.names("loss")


def test_isolated_registries_do_not_meet(isolated_registry: Registry) -> None:
    assert "mine" not in argus_core.names("loss")


def test_a_part_can_be_built(isolated_registry: Registry) -> None:
    argus_core.register("loss", "mine", dict)
    part = ComponentUnderTest(argus_core.resolve("loss", "mine"))
    assert (part.kind, part.name, part.load(), part.build(a=1)) == ("loss", "mine", dict, {"a": 1})


def test_the_nearest_project_with_a_name_counts(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "outer"\n', "utf-8")
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text("[tool.ruff]\n", "utf-8")
    assert distribution_of(inner / "test_it.py") == "outer"


def test_a_project_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project\n", "utf-8")
    with pytest.raises(ConfigError, match=r"pyproject.toml cannot be read: .*; fix it"):
        distribution_of(tmp_path / "test_it.py")
