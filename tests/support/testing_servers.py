"""Servers of `argus_core.testing.fresh_process` that find torch imported, and packages of a test's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from processes import running

from argus_core.testing.fresh_process import SERVER

__all__ = ["server_with"]


@contextmanager
def server_with(packages: Path, folder: Path) -> Iterator[None]:
    """Have fresh processes find the packages in a folder, as if that were installed.

    Args:
        packages: what ``sys.path`` is to begin with.
        folder: for the server's socket.
    """
    path = str(folder / "socket")
    with pytest.MonkeyPatch.context() as patch:
        if not hasattr(os, "fork"):  # and so no server
            patch.setenv("PYTHONPATH", str(packages), prepend=os.pathsep)
            yield
            return
        with running(_listen, packages, path) as (_, connection):
            os.read(connection.fileno(), 1)  # once it listens
            patch.setenv(SERVER, path)
            yield


def _listen(packages: Path, path: str, connection: Connection) -> None:
    from argus_core.testing.server import listen

    sys.path.insert(0, str(packages))
    with (
        open(connection.fileno(), "rb", closefd=False) as orders,
        open(connection.fileno(), "wb", closefd=False) as answers,
    ):
        listen(path, orders, answers)
