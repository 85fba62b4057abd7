"""Context managers of step strategies: several nested in one, and those around a whole evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

__all__ = ["Evaluation", "nested"]


class Evaluation:
    """The contexts of strategies around a validation or prediction, such as one with averaged weights.

    It exits them while the model trains in the middle of an evaluation.

    Args:
        contexts: the implementations of the slot ``evaluation_context``.

    Attributes:
        held: the entered contexts during an evaluation, else ``None``.
    """

    def __init__(self, contexts: Sequence[Callable[[], AbstractContextManager[object]]]) -> None:
        self._contexts = contexts
        self.held: ExitStack | None = None

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Enter the contexts for a whole validation or prediction; a nested call does nothing."""
        if self.held is not None or not self._contexts:  # swapping weights twice undoes the swap
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
        """Exit the contexts of a running evaluation while the block runs, so that the block can train."""
        held = self.held
        if held is None:
            yield
            return
        self.held = None  # an evaluation inside the block enters the contexts again
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
    """Return the contexts of several implementations of a slot nested in one, the first outermost."""
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
