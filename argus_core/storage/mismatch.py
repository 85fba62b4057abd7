"""The error for stored state that does not fit the object it is loaded into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from argus_core.errors import ArgusError, StateMismatchError

__all__ = ["fitting"]


@contextmanager
def fitting(what: str, advice: str, stored: str = "state") -> Iterator[None]:
    """Convert any exception in the block, which loads stored state, to a `StateMismatchError`.

    Plugins, torch and users' classes may raise exceptions of any type for the contents of a file.

    Args:
        what: the owner of the state.
        advice: the next action.
        stored: the kind of state.

    Raises:
        StateMismatchError: the block raised an exception; an `ArgusError` is raised unchanged.
    """
    try:
        yield
    except ArgusError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise StateMismatchError(f"the stored {stored} does not fit {what}: {reason}; {advice}") from error
