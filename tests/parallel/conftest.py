"""What the tests of several processes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from process_pool import close_all


@pytest.fixture(scope="session", autouse=True)
def ended_pools() -> Iterator[None]:
    """End the pools of processes after the last test."""
    yield
    close_all()
