"""What the tests of several processes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def ended_pools() -> Iterator[None]:
    """End the pools of processes after the last test."""
    yield
    from process_pool import close_all  # lazy: it needs torch, and this file is read where there is none

    close_all()
