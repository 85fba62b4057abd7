"""Checks for the authors of plugins: what a part must do to work together with all others.

A check raises AssertionError with what it expected and found, so any test runner will do::

    from argus_core.testing import check_component


    def test_my_network():
        check_component("nn_module", "unet", {"classes": 2}, input=(2, 3, 64, 64))

Names are imported on first use: pytest loads this package at its start, and torch takes seconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers; at run time __getattr__ imports on first use
    from argus_core.testing.checking import check_callback as check_callback
    from argus_core.testing.checking import check_component as check_component
    from argus_core.testing.checking import check_config as check_config
    from argus_core.testing.checking import check_dataset as check_dataset
    from argus_core.testing.checking import check_loss as check_loss
    from argus_core.testing.checking import check_lr_scheduler as check_lr_scheduler
    from argus_core.testing.checking import check_metric as check_metric
    from argus_core.testing.checking import check_model as check_model
    from argus_core.testing.checking import check_nn_module as check_nn_module
    from argus_core.testing.checking import check_optimizer as check_optimizer
    from argus_core.testing.checking import check_step as check_step
    from argus_core.testing.checking import check_transform as check_transform
    from argus_core.testing.composition import Example as Example
    from argus_core.testing.composition import check_composition as check_composition
    from argus_core.testing.composition import check_strategy as check_strategy
    from argus_core.testing.composition import compositions as compositions
    from argus_core.testing.composition import examples as examples
    from argus_core.testing.file_param_table import check_file_param_table as check_file_param_table
    from argus_core.testing.parts import ComponentUnderTest as ComponentUnderTest

_EXPORTS = {
    "checking": (
        "check_callback",
        "check_component",
        "check_config",
        "check_dataset",
        "check_loss",
        "check_lr_scheduler",
        "check_metric",
        "check_model",
        "check_nn_module",
        "check_optimizer",
        "check_step",
        "check_transform",
    ),
    "composition": ("Example", "check_composition", "check_strategy", "compositions", "examples"),
    "file_param_table": ("check_file_param_table",),
    "parts": ("ComponentUnderTest",),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    try:
        module = _MODULE_OF[name]
    except KeyError:
        raise AttributeError(f"module 'argus_core.testing' has no attribute {name!r}") from None
    return getattr(importlib.import_module(f"argus_core.testing.{module}"), name)
