"""The words in which a run asks for what it lacks: arguments of `fit`, or keys of a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["ask_for_validation", "ask_to_resume_with", "asking_for_keys", "called"]

_is_configured: ContextVar[bool] = ContextVar("is_configured", default=False)


@contextmanager
def asking_for_keys() -> Iterator[None]:
    """Let messages name the keys of a configuration while the block runs."""
    token = _is_configured.set(True)
    try:
        yield
    finally:
        _is_configured.reset(token)


def called(argument: str) -> str:
    """Return the name of an argument of `fit` as the user wrote it."""
    return f"[fit] {argument}" if _is_configured.get() else argument


def ask_for_validation() -> str:
    """Return the action that gives a run a validation."""
    return "add val to [data]" if _is_configured.get() else "give fit a val_loader"


def ask_to_resume_with(argument: str, value: object) -> str:
    """Return the action that resumes a run with another value of an argument."""
    return f"resume with {'--set ' if _is_configured.get() else ''}{argument}={value}"
