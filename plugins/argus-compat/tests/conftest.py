from __future__ import annotations

from collections.abc import Iterator

import pytest

from argus_core import isolated_registry


@pytest.fixture(autouse=True)
def own_registry() -> Iterator[None]:
    """Let no test see the model and metric classes of another."""
    with isolated_registry(builtins=True):
        yield
