"""Fixtures for pytest, there wherever this package is installed; `-p no:argus` leaves them out.

pytest imports this at its start, so it imports next to nothing by itself.
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
    """Let a project say whose parts ``argus_component`` goes through."""
    parser.addini(
        _INI, "the distribution whose parts argus_component goes through (default: pyproject.toml's)"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test that takes ``argus_component`` one for each part."""
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
    """Each part of the distribution under test in turn: an `argus_core.testing.ComponentUnderTest`."""
    part: ComponentUnderTest = request.param
    return part


@pytest.fixture
def isolated_registry() -> Iterator[Registry]:
    """A registry of the test's own: the built-in parts, no plugin's, and what the test registers."""
    from argus_core.registry.registry import isolated_registry as isolated

    with isolated(builtins=True) as registry:
        yield registry
