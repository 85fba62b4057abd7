"""The pools of `argus_core.testing`, as the tests of several processes use them."""

from __future__ import annotations

from argus_core.testing.process_pool import Failed, Pool, close_all, in_processes

__all__ = ["Failed", "Pool", "close_all", "in_processes"]
