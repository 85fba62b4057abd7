"""What is said when stored state does not fit, by whomever it is taken back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from argus_core.errors import ArgusError, StateMismatchError

__all__ = ["fitting"]


@contextmanager
def fitting(what: str, advice: str, stored: str = "state") -> Iterator[None]:
    """Turn whatever is raised while stored state is taken back into a sentence.

    Plugins, torch and a user's own classes may expect anything of what a file holds, and so raise anything.

    Args:
        what: whose state it is.
        advice: the next action.
        stored: what kind of state it is.

    Raises:
        StateMismatchError: it did not fit; our own errors stay as they are.
    """
    try:
        yield
    except ArgusError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise StateMismatchError(f"the stored {stored} does not fit {what}: {reason}; {advice}") from error
