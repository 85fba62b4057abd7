"""Checks for the authors of plugins: what a part must do to work together with all others.

A check raises AssertionError with what it expected and found, so any test runner will do::

    from argus_core.testing import check_strategy


    def test_it_composes_with_every_other_strategy():
        check_strategy("skip_large_loss", {"limit": 3.0})
"""

from __future__ import annotations

from argus_core.testing.composition import (
    Example,
    check_composition,
    check_strategy,
    compositions,
    examples,
)

__all__ = ["Example", "check_composition", "check_strategy", "compositions", "examples"]
