"""Which torch brought the declared torch classes that the oldest allowed torch lacks.

torch's losses, optimizers, schedulers and transforms are declared in ``pyproject.toml`` whatever torch is
installed. Asked for one that the installed torch lacks, the registry says from here which torch has it.
"""

from __future__ import annotations

__all__ = ["ADDED_IN"]

ADDED_IN: dict[str, str] = {
    "torch.nn:LinearCrossEntropyLoss": "2.13",
}
"""The first torch release that has a declared target; targets left out are in the oldest torch allowed."""
