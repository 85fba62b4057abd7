"""The parameters that require grad and are not in the optimizer, which no update moves."""

from __future__ import annotations

import warnings

from argus_core.errors import ArgusWarning
from argus_core.model.assembly import Assembly
from argus_core.steps.parameters import named_parameters

__all__ = ["warn_of_untrained"]

_SHOWN = 3


def warn_of_untrained(model: Assembly) -> None:
    """Warn if the optimizer lacks parameters that require grad, unless the model's class chooses them."""
    groups = getattr(model.optimizer, "param_groups", None)
    if groups is None or type(model).build_optimizer is not Assembly.build_optimizer:
        return
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    missing = [
        name
        for name, parameter in named_parameters(model).items()
        if parameter.requires_grad and id(parameter) not in trained
    ]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if missing[_SHOWN:] else ""
        warnings.warn(
            f"the optimizer does not have {', '.join(map(repr, missing[:_SHOWN]))}{more}, which require "
            "grad, so no update moves them; after you add, replace or unfreeze parameters of a built model, "
            "build its optimizer again by model.set_part('optimizer'), or call requires_grad_(False) on them",
            ArgusWarning,
            stacklevel=3,
        )
