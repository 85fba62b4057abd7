"""Checks for authors of plugins: a component that passes them works together with all others.

A check raises AssertionError with the expected and the actual result, so any test runner can run it::

    from argus_core.testing import check_component


    def test_my_network():
        check_component("nn_module", "unet", {"classes": 2}, input=(2, 3, 64, 64))

Names are imported on first use: pytest loads this package at its start, and torch takes seconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers; at run time __getattr__ imports on first use
    from argus_core.testing.checking import check_component as check_component
    from argus_core.testing.composition import Example as Example
    from argus_core.testing.composition import check_composition as check_composition
    from argus_core.testing.composition import check_strategy as check_strategy
    from argus_core.testing.composition import compositions as compositions
    from argus_core.testing.composition import examples as examples
    from argus_core.testing.file_param_table import check_file_param_table as check_file_param_table
    from argus_core.testing.parts import ComponentUnderTest as ComponentUnderTest

_MODULE_OF = {
    "ComponentUnderTest": "parts",
    "check_component": "checking",
    "check_file_param_table": "file_param_table",
    **dict.fromkeys(
        ("Example", "check_composition", "check_strategy", "compositions", "examples"), "composition"
    ),
}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    try:
        module = _MODULE_OF[name]
    except KeyError:
        raise AttributeError(f"module 'argus_core.testing' has no attribute {name!r}") from None
    return getattr(importlib.import_module(f"argus_core.testing.{module}"), name)
