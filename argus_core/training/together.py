"""The rules of several processes: each takes its share, one speaks, and all end if one fails."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from logging import ERROR, Logger, LogRecord
from typing import Any

from torch import distributed

from argus_core.abstract_model import AbstractModel
from argus_core.callbacks.state import AbstractEngine
from argus_core.data.slices import Share
from argus_core.errors import ArgusWarning
from argus_core.parallel.ending import ending_together, ending_unless_alike
from argus_core.tensors.processes import is_first

__all__ = [
    "evaluating_together",
    "fitting_together",
    "running_together",
    "share_of",
    "taking_part",
]


def share_of(model: AbstractModel) -> Share | None:
    """Return the share of this process in each batch; ``None`` in a run of one."""
    if not _is_several(model):
        return None
    return Share(distributed.get_rank(), distributed.get_world_size())


def _is_several(model: Any) -> bool:
    engine = getattr(model, "parallel", None)  # a user's own engine may run any object
    return engine is not None and engine.several


def taking_part(callbacks: list[Any]) -> list[Any]:
    """Return the callbacks that this process calls: only the first has those that write for all."""
    if is_first():
        return callbacks
    return [each for each in callbacks if not getattr(each, "first_process_only", False)]


def fitting_together(model: AbstractModel) -> AbstractContextManager[None]:
    """Return a context that ends all processes of a run if it fails in some; if in all, they continue."""
    return ending_unless_alike() if _is_several(model) else nullcontext()


@contextmanager
def running_together(engine: AbstractEngine) -> Iterator[None]:
    """Run the block in all processes of a run; if it fails in one, all end, and one traceback says why."""
    model = engine.state.model
    if not _is_several(model):
        yield
        return
    exchange = model.parallel.exchange
    with evaluating_together(model):
        exchange.begin_run()
        try:
            yield
        finally:
            exchange.end_run()


@contextmanager
def evaluating_together(model: AbstractModel) -> Iterator[None]:
    """Evaluate or predict in all processes of a run; if one fails, all end, and one traceback says why."""
    if not _is_several(model):
        yield
        return
    with ending_together(), _first_speaks(model.logger):
        yield


@contextmanager
def _first_speaks(logger: Logger) -> Iterator[None]:
    """Let only the first process log and warn: the others have the same to say."""
    if is_first():
        yield
        return

    def errors_only(record: LogRecord) -> bool:
        return record.levelno >= ERROR

    logger.addFilter(errors_only)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ArgusWarning)
            yield
    finally:
        logger.removeFilter(errors_only)
