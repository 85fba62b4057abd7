"""What the tests of several processes share."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def ended_pools() -> Iterator[None]:
    """Import what each process would import by itself, and end the pools of processes after the last test."""
    for module in ("torch._dynamo", "torch.distributed.fsdp"):
        importlib.import_module(module)
    yield
    from process_pool import close_all  # lazy: it needs torch, and this file is read where there is none

    close_all()
