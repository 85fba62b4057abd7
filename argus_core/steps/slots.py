"""The slots of an update, filled with the bound methods of a model's strategies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from argus_core.abstract_model import AbstractModel
from argus_core.steps.composition import SLOTS, Composed
from argus_core.steps.contexts import nested

__all__ = ["Slots"]

_Method = Callable[..., Any]
_NOTHING = nullcontext()

# Slots that take no part in making an update, or that the default fills.
_BESIDE_THE_UPDATE = frozenset(
    "set_up window_size prepare_batch evaluation_context finish_prediction state_dict load_state_dict".split()
)


@dataclass(frozen=True)
class Slots:
    """Who sits in the slots of `argus_core.steps.hooks.StepHooks`, in order.

    An owner's slot has one method, or ``None`` where the update itself does what the default does. An empty
    slot costs an empty loop, never a pluggy call.

    Attributes:
        forward_context: returns the context for forward and loss.
        is_plain: whether no strategy shapes the update.
    """

    prepare_batch: tuple[_Method, ...]
    split_window: _Method | None
    micro_batch_weight: _Method | None
    sync_context: tuple[_Method, ...]
    forward_context: Callable[[], AbstractContextManager[Any]]
    scale_loss: tuple[_Method, ...]
    backward: _Method | None
    out_of_memory: _Method | None
    unscale: _Method | None
    transform_gradients: tuple[_Method, ...]
    allow_update: tuple[_Method, ...]
    run_procedure: _Method | None
    apply_update: _Method | None
    after_update: tuple[_Method, ...]
    is_plain: bool

    @classmethod
    def of(cls, composed: Composed, model: AbstractModel) -> Slots:
        """Return the slots that a model's strategies fill."""
        found = {slot: composed.implementations(slot, model) for slot in SLOTS}
        shaping = any(found[slot] for slot in SLOTS if slot not in _BESIDE_THE_UPDATE)
        return cls(
            found["prepare_batch"],
            _owner(found["split_window"]),
            _owner(found["micro_batch_weight"]),
            found["sync_context"],
            _one_context(found["forward_context"]),
            found["scale_loss"],
            _owner(found["backward"]),
            _owner(found["out_of_memory"]),
            _owner(found["unscale"]),
            found["transform_gradients"],
            found["allow_update"],
            _owner(found["run_procedure"]),
            _owner(found["apply_update"]),
            found["after_update"],
            not shaping and len(found["prepare_batch"]) == 1,
        )


def _owner(implementations: Sequence[_Method]) -> _Method | None:
    return implementations[0] if implementations else None


def _one_context(contexts: Sequence[_Method]) -> Callable[[], AbstractContextManager[Any]]:
    if not contexts:
        return lambda: _NOTHING
    return contexts[0] if len(contexts) == 1 else lambda: nested(contexts)
