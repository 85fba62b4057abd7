"""The slots of an update, filled with the bound methods of a model's step strategies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from argus_core.abstract_model import AbstractModel
from argus_core.errors import BuildError
from argus_core.steps.composition import SLOTS, Composed
from argus_core.steps.contexts import nested

__all__ = ["Slots", "checked_stepped"]

_Method = Callable[..., Any]
_NOTHING = nullcontext()

# Slots that an `Update` does not call, or that the default strategy always fills.
_BESIDE_THE_UPDATE = frozenset(
    "set_up window_size prepare_batch evaluation_context finish_prediction state_dict load_state_dict".split()
)


@dataclass(frozen=True)
class Slots:
    """The methods to call in each slot of `argus_core.steps.hooks.StepHooks`, in order.

    A slot with one owner holds one method, or ``None`` where `Update` contains the default's code. An empty
    slot costs an empty loop, not a pluggy call.

    Attributes:
        forward_context: returns the context for forward and loss.
        is_plain: whether no strategy changes the update.
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
        """Return the slots filled with the methods of a model's strategies."""
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


def checked_stepped(stepped: Any, slot: str) -> bool:
    """Return what a strategy returned from a slot that moves the weights, or raise if it is not a bool."""
    if type(stepped) is not bool:
        raise BuildError(
            f"a step strategy's {slot} returned {stepped!r}; return from it whether the weights moved"
        )
    return stepped
