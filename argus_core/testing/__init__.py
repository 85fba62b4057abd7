"""Checks for authors of plugins: a component that passes them works together with all others.

A check raises AssertionError with the expected and the actual result, so any test runner can run it::

    from argus_core.testing import check_component


    def test_my_network():
        check_component("nn_module", "unet", {"classes": 2}, input=(2, 3, 64, 64))

Names are imported on first use: pytest loads this package at its start, and torch takes seconds.
"""

from __future__ import annotations

from argus_core.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__)
