"""Contexts that strategies give: several as one, and those that stay entered for a whole evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

__all__ = ["Evaluation", "nested"]


class Evaluation:
    """Enters the contexts in which validation and prediction see a network, such as its averaged weights.

    It leaves them while the model is trained in the midst of an evaluation.

    Args:
        contexts: the implementations of the slot ``evaluation_context``.

    Attributes:
        held: the contexts of the evaluation that is going on, if any.
    """

    def __init__(self, contexts: Sequence[Callable[[], AbstractContextManager[object]]]) -> None:
        self._contexts = contexts
        self.held: ExitStack | None = None

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Hold the contexts for a whole validation or prediction; one inside another adds nothing."""
        if self.held is not None or not self._contexts:  # weights that are swapped twice are the old ones
            yield
            return
        with ExitStack() as self.held:
            try:
                self._enter(self.held)
                yield
            finally:
                self.held = None

    @contextmanager
    def left(self) -> Iterator[None]:
        """Leave the evaluation that is going on, if any: the model is for now as it is trained."""
        held = self.held
        if held is None:
            yield
            return
        self.held = None  # an evaluation in here is one of its own
        held.close()
        try:
            yield
        finally:
            self.held = held
            self._enter(held)

    def _enter(self, stack: ExitStack) -> None:
        for context in self._contexts:
            stack.enter_context(context())


def nested(contexts: Sequence[Callable[..., Any]], *arguments: Any) -> AbstractContextManager[Any]:
    """Return one context for those that several implementations of a slot return, the first outermost."""
    if len(contexts) == 1:
        context: AbstractContextManager[Any] = contexts[0](*arguments)
        return context
    return _stacked(contexts, arguments)


@contextmanager
def _stacked(contexts: Sequence[Callable[..., Any]], arguments: tuple[Any, ...]) -> Iterator[None]:
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context(*arguments))
        yield
