"""A checkpoint loaded in a process of its own, which sees how much memory that takes.

The process imports this module, so it imports little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import argus_core
from argus_core import load_model

__all__ = ["Outcome", "load_one", "register_net"]


class Outcome(NamedTuple):
    """The result of loading a file.

    Attributes:
        error: the class of the exception that it raised.
        message: the exception's text.
        growth: the memory that the process took meanwhile, at most, in bytes.
    """

    error: type[object]
    message: str
    growth: int


def register_net() -> None:
    from networks import Net

    argus_core.register("nn_module", "net", Net)


def load_one(
    path: Path, sound: Iterable[Path], register: Callable[[], None], most: int, connection: Connection
) -> None:
    """Send the outcome of loading a file.

    Args:
        path: of the file.
        sound: files to load before, after which torch and Python take no more memory by themselves.
        register: registers what the files need.
        most: bytes of address space that the process may have, so that it fails rather than the machine.
        connection: for the `Outcome`.
    """
    import resource

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    with argus_core.isolated_registry(builtins=True):
        register()
        for other in sound:
            load_model(other)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        before, error = peak(), None
        try:
            load_model(path)
        except BaseException as caught:
            error = caught
    connection.send(Outcome(type(error), str(error)[:2000], peak() - before))
