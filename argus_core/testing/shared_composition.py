"""The composition matrix on several processes: a combination trains as the loop by hand does in one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from argus_core.errors import ConflictError
from argus_core.testing.composition import Example, check_close, states_by_framework, states_by_hand
from argus_core.testing.process_pool import in_processes
from argus_core.testing.settings import LBFGS, Setting, settings

__all__ = ["check_shared_composition"]

_LBFGS_ROUNDING = 1e-9  # its line of steps enlarges the rounding of sums in another order


def check_shared_composition(
    members: Sequence[Example], engine: str = "ddp", processes: int = 2
) -> str | None:
    """Check that a combination trains in several processes as the hand-written loop does in one.

    It compares weights, buffers and averaged weights in float64 in every setting that does not depend on how
    a batch is cut. The processes are forked once and live until the tests end, so components must be
    registered before the first call.

    Args:
        members: the step strategies to combine.
        engine: the name of the engine.
        processes: their number.

    Returns:
        The reason that the combination is refused, or ``None`` if it is not.

    Raises:
        AssertionError: the results differ; the message says where, and by how much.
    """
    listed = [each.spec for each in members]
    random.Random(len(listed)).shuffle(listed)
    for setting in settings(listed):
        if setting.network:  # batch norm and dropout see the slice of a process
            continue
        shared = replace(setting, parallel=engine)
        found, *others = in_processes(processes, _states, shared, listed)
        if isinstance(found, str):
            return found
        title = f"{' + '.join(each.label for each in members) or 'default'}, {setting.label}, {engine}"
        expected = states_by_hand(setting, members)
        tolerance = max(setting.tolerance, _LBFGS_ROUNDING * (setting.optimizer is LBFGS))
        for rank, states in enumerate((found, *others)):
            for name, value in expected.items():
                if states[name] is not None:
                    ours = torch.tensor(states[name], dtype=torch.float64)
                    check_close(f"{title}, process {rank}: {name}", ours, value, tolerance)
    return None


def _states(setting: Setting, listed: Sequence[Any]) -> dict[str, Any] | str:
    """Train in one of the processes; return the values by name, or the reason of a refusal."""
    try:
        model = setting.model(listed)
    except ConflictError as error:
        return str(error)
    return states_by_framework(setting, model)
