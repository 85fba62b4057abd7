"""The state of a scheduler: saving, checking and restoring it, and its remaining steps."""

from __future__ import annotations

import math
import reprlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import Tensor

from argus_core.errors import StateMismatchError
from argus_core.storage.stored import is_number

__all__ = [
    "check_scheduler_state",
    "load_scheduler_state",
    "plain_state",
    "shown_option",
    "steps_left",
]

# The strings among the options of torch's schedulers.
_WORDS = frozenset(
    "cos linear min max rel abs triangular triangular2 exp_range cycle iterations "
    "initial_lr max_lr min_lr max_momentum base_momentum".split()
)


def plain_state(scheduler: Any) -> dict[str, Any]:
    """Return a scheduler's state without subclasses of dict, which a checkpoint cannot store."""
    state: dict[str, Any] = _plain(scheduler.state_dict())
    return state


def load_scheduler_state(scheduler: Any, state: Mapping[str, Any]) -> None:
    """Restore a scheduler's state, with subclasses of dict, such as MultiStepLR's, restored as such."""
    scheduler.load_state_dict(_like(scheduler.state_dict(), state))


def check_scheduler_state(name: str, scheduler: Any, stored: Mapping[str, Any]) -> None:
    """Check a stored state before its values become attributes of a scheduler.

    torch's schedulers are compared with what was built; what the attributes of others look like is their
    business, as long as they take the place of nothing else.

    Raises:
        StateMismatchError: it is not the state of such a scheduler.
    """
    problem = next(_problems(scheduler, stored), None)
    if problem is not None:
        raise StateMismatchError(
            f"the stored state does not fit lr_scheduler {name!r}: {problem}; choose the scheduler of "
            "the run, or load the weights with load_model and start a new run"
        )


def steps_left(scheduler: Any, falling: Collection[Any] = ()) -> float:
    """Return the number of steps that a scheduler has left.

    Of torch's, only ``OneCycleLR`` has an end.

    Args:
        scheduler: perhaps with others inside.
        falling: those of ``CosineAnnealingLR`` that end at their ``T_max``, and do not rise again.
    """
    end = _end(scheduler, falling)
    return end if end == math.inf else end - _position(scheduler)


def _end(scheduler: Any, falling: Collection[Any]) -> float:
    """Return the total number of steps."""
    parts = list(getattr(scheduler, "_schedulers", ()))
    if type(scheduler).__name__ == "OneCycleLR":
        return float(scheduler.total_steps)
    if any(scheduler is each for each in falling):
        return float(scheduler.T_max)
    if type(scheduler).__name__ != "SequentialLR":
        return min((_end(part, falling) for part in parts), default=math.inf)
    starts: list[int] = [0, *scheduler._milestones]
    ends: list[float] = [*(start - 1 for start in starts[1:]), math.inf]  # each part's last step
    lasting = [start + _end(part, falling) for start, part in zip(starts, parts, strict=True)]
    return min((last for last, end in zip(lasting, ends, strict=True) if last < end), default=math.inf)


def _position(scheduler: Any) -> int:
    is_chain = type(scheduler).__name__ == "ChainedScheduler"
    position: int = _position(scheduler._schedulers[0]) if is_chain else scheduler.last_epoch
    return position


def _problems(scheduler: Any, stored: Mapping[str, Any]) -> Iterator[str]:
    own = scheduler.state_dict()
    for key in stored:
        if not isinstance(key, str) or (key not in own and hasattr(scheduler, key)):
            yield f"it has {reprlib.repr(key)}, which does not belong to its state"
    if not (type(scheduler).__module__.startswith("torch.") or getattr(scheduler, "exact_state", False)):
        return
    for key, value in own.items():
        if key not in stored:
            if not key.startswith("_"):  # those come and go with versions of torch
                yield f"it lacks {key!r}"
        elif key == "_schedulers":
            yield from _problems_of_parts(scheduler, stored[key])
        elif not _fits(value, stored[key]):
            was, built = reprlib.repr(stored[key]), reprlib.repr(value)
            yield f"{key} is {was} in the file and {built} in what was built"


def _problems_of_parts(scheduler: Any, stored: Any) -> Iterator[str]:
    parts = scheduler._schedulers
    if not isinstance(stored, list) or len(stored) != len(parts):
        count = len(stored) if isinstance(stored, list) else reprlib.repr(stored)
        yield f"it has {count} schedulers in the file and {len(parts)} in what was built"
        return
    for part, state in zip(parts, stored, strict=True):
        if isinstance(state, Mapping):
            yield from _problems(part, state)
        else:
            yield f"the state of its {type(part).__name__} is {reprlib.repr(state)}"


def _fits(own: Any, stored: Any) -> bool:
    """Return whether a stored value may replace an attribute of a torch scheduler."""
    if isinstance(own, bool):
        return type(stored) is bool
    if own is None or isinstance(own, int | float):
        return (stored is None and own is None) or (is_number(stored) and not math.isnan(stored))
    if isinstance(own, str):
        return isinstance(stored, str) and stored in {own, *_WORDS}
    if isinstance(own, Tensor):
        return isinstance(stored, Tensor) and (stored.shape, stored.dtype) == (own.shape, own.dtype)
    if isinstance(own, Counter):
        return isinstance(stored, Mapping) and all(type(each) is int for each in (*stored, *stored.values()))
    if isinstance(own, Mapping):
        return (
            isinstance(stored, Mapping)
            and own.keys() == stored.keys()
            and all(_fits(value, stored[key]) for key, value in own.items())
        )
    if not isinstance(own, list):
        return type(own) is type(stored)
    if not isinstance(stored, list):
        return False
    if own and isinstance(own[0], Mapping):  # OneCycleLR has two phases or three
        return bool(stored) and all(_fits(own[0], item) for item in stored)
    return len(own) == len(stored) and all(map(_fits, own, stored))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if type(value) is list else value


def _like(own: Any, stored: Any) -> Any:
    """Return a stored state with the dict types of the scheduler's own state, at any depth."""
    if isinstance(own, dict) and isinstance(stored, Mapping):
        return type(own)({name: _like(own.get(name), value) for name, value in stored.items()})
    if type(own) is type(stored) is list and len(own) == len(stored):
        return list(map(_like, own, stored))
    return stored


def shown_option(value: Any) -> Any:
    """Return an option as plain data that are the same in every process."""
    if isinstance(value, list | tuple):
        return [shown_option(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): shown_option(item) for name, item in value.items()}
    plain = value is None or type(value) in (str, int, float, bool)
    return value if plain else getattr(value, "__qualname__", type(value).__name__)
