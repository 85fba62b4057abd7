"""Fixtures for pytest, available if this package is installed; `-p no:argus` switches them off.

pytest imports this module when it starts, so the module itself imports very little.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from argus_core.registry.registry import Registry
    from argus_core.testing.parts import ComponentUnderTest

__all__ = ["argus_component", "isolated_registry", "pytest_addoption", "pytest_generate_tests"]

_INI = "argus_distribution"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the package for ``argus_component``."""
    parser.addini(
        _INI,
        "the package with the components of the fixture argus_component (default: that of pyproject.toml)",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes ``argus_component`` once for each component."""
    if "argus_component" not in metafunc.fixturenames:
        return
    from argus_core.errors import ArgusError
    from argus_core.testing.parts import distribution_of, parts_of

    try:
        distribution = metafunc.config.getini(_INI) or distribution_of(metafunc.definition.path)
        parts = parts_of(distribution)
    except ArgusError as error:
        pytest.fail(f"argus_component: {error}", pytrace=False)
    ids = [f"{part.kind}-{part.name}" for part in parts]
    metafunc.parametrize("argus_component", parts, ids=ids, indirect=True)


@pytest.fixture
def argus_component(request: pytest.FixtureRequest) -> ComponentUnderTest:
    """Each component of the package under test: an `argus_core.testing.ComponentUnderTest`."""
    part: ComponentUnderTest = request.param
    return part


@pytest.fixture
def isolated_registry() -> Iterator[Registry]:
    """A separate registry for the test, with the built-in components and without plugins."""
    from argus_core.registry.registry import isolated_registry as isolated

    with isolated(builtins=True) as registry:
        yield registry
