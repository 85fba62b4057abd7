"""Several processes of one run, each its own, that save together.

A process of the group tells its result through its connection, or that another one was lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from numbered import numbered, save
from processes import running
from torch import distributed

from argus_core.storage import write
from argus_core.storage.pieces import Piece, even_part, whole
from argus_core.tensors.processes import saving_group

__all__ = ["group", "results", "save_numbered", "split", "written"]


@contextmanager
def group(
    function: Callable[..., Any], meeting: Path, count: int, *args: Any
) -> Iterator[list[tuple[BaseProcess, Connection]]]:
    """Run ``function(rank, connection, *args)`` in each process of one run until the block ends."""
    own = meeting.with_name(
        f"{meeting.name}-{os.urandom(4).hex()}"
    )  # a used one would let them wait for ever
    with ExitStack() as stack:
        stack.callback(own.unlink, missing_ok=True)
        yield [
            stack.enter_context(running(_member, function, own, count, rank, *args)) for rank in range(count)
        ]


def results(function: Callable[..., Any], meeting: Path, count: int, *args: Any) -> list[Any]:
    """Return what ``function(rank, *args)`` returns, or raises, in each of ``count`` processes."""
    with group(_returning, meeting, count, function, *args) as members:
        return [connection.recv() for _, connection in members]


def _member(
    function: Callable[..., Any], meeting: Path, count: int, rank: int, *args_and_connection: Any
) -> None:
    *args, connection = args_and_connection
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
    function(rank, connection, *args)
    distributed.destroy_process_group()


def _returning(rank: int, connection: Connection, function: Callable[..., Any], *args: Any) -> None:
    try:
        connection.send(function(rank, *args))
    except Exception as error:
        connection.send(error)
    connection.poll(30)  # until all have told


def split(tensors: dict[str, torch.Tensor], rank: int, count: int) -> dict[str, torch.Tensor | Piece]:
    """Return the tensors of one process: an even piece of each that has dimensions, and the others whole."""
    given: dict[str, torch.Tensor | Piece] = {}
    for name, tensor in tensors.items():
        if tensor.dim():
            box = even_part(tensor.shape, 0, rank, count)
            given[name] = Piece(tensor[box.inside(whole(tensor.shape))], tuple(tensor.shape), box.offset)
        else:
            given[name] = tensor
    return given


def written(path: Path, pieces: list[dict[str, torch.Tensor | Piece]], manifest: dict[str, Any]) -> list[Any]:
    """Write a folder by one process for each of these dicts; return None for each, or what it raised."""
    return results(_write, path.parent / "meeting", len(pieces), path, pieces, manifest)


def _write(rank: int, path: Path, pieces: list[Any], manifest: dict[str, Any]) -> None:
    write(path, pieces[rank], manifest, saving_group())


def save_numbered(path: Path, meeting: Path, count: int, run: int, hidden: int) -> None:
    """Save a numbered model in several processes."""
    raised = results(_save_numbered, meeting, count, path, run, hidden)
    assert raised == [None] * count, raised


def _save_numbered(rank: int, path: Path, run: int, hidden: int) -> None:
    save(numbered(run, hidden), path)
