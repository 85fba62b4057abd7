"""The choice of a run's engine: by the number of processes, and by the name in ``params["parallel"]``."""

from __future__ import annotations

from typing import Any

from argus_core.errors import BuildError
from argus_core.parallel.ddp import DDP
from argus_core.parallel.engine import AbstractParallel
from argus_core.parallel.single import Single
from argus_core.registry.factory import call_factory, described
from argus_core.registry.part import Part
from argus_core.tensors.single_process import started_processes

__all__ = ["auto", "build_engine"]


def auto(sharded_already: bool = False, timeout: float = 30.0) -> AbstractParallel | Single:
    """Return the engine `DDP` in a run of several processes, else `Single`.

    Args:
        sharded_already: see `AbstractParallel`.
        timeout: see `AbstractParallel`, in seconds.
    """
    engine = DDP(sharded_already, timeout)
    return engine if started_processes() > 1 else Single()


def build_engine(part: Part) -> AbstractParallel | Single:
    """Build the engine of a run; on one process every engine is `Single`, once its params are checked.

    Raises:
        BuildError: ``single`` in a run of several processes, or a factory that returns something else.
    """
    engine: Any = call_factory(part.label, part.factory, (), part.params)
    if not isinstance(engine, AbstractParallel | Single):
        raise BuildError(
            f"{part.label} was built as {described(engine)}; its factory must return an "
            "argus_core.parallel.engine.AbstractParallel"
        )
    count = started_processes()
    if count == 1:
        return Single()
    if isinstance(engine, Single):
        raise BuildError(
            f"parallel is 'single' in a run of {count} processes, which would train {count} unrelated "
            "models; leave it out, or choose 'ddp'"
        )
    return engine
