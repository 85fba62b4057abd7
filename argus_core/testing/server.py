"""Answers requests for operations, each in a fresh process; `argus_core.testing.fresh_process` starts it."""

from __future__ import annotations

import importlib
import os
import pickle
import select
import signal
import socket
from collections.abc import Callable, Iterator
from typing import IO, Any

from argus_core.doctor.process import own_streams, serve, write_message
from argus_core.testing.contract import told
from argus_core.testing.fresh_process import SERVER

__all__ = ["listen", "main"]


def main(arguments: list[str]) -> None:
    """Listen at a socket until standard input ends, or answer the one request that comes there."""
    orders, answers = own_streams()
    if arguments:
        listen(arguments[0], orders, answers)
    else:
        serve(_answer, orders, answers)


def listen(path: str, orders: IO[bytes], answers: IO[bytes]) -> None:
    """Answer each request in a fork, which ends after it.

    Args:
        path: of the socket.
        orders: ends when nobody needs the server any more.
        answers: is told that the server listens, and closed.
    """
    _operations()  # imports torch, here and never again
    importlib.import_module("torch._dynamo")  # which an optimizer would import in its first step
    os.environ[SERVER] = path  # what a request asks of fresh processes comes here
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(16)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
        write_message(answers, b"listening")
        answers.close()
        waited_for: list[Any] = [listener, orders]
        while orders not in select.select(waited_for, [], [])[0]:
            channel, _ = listener.accept()
            with channel:
                if os.fork() == 0:
                    orders.close()
                    _serve(channel)


def _serve(channel: socket.socket) -> None:
    """Answer as a fork of the server, in a session of its own, and end."""
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        stream: Any = channel.makefile("rwb")
        write_message(stream, str(os.getpid()).encode())
        serve(_answer, stream, stream)
    finally:
        os._exit(1)  # and never go on as the server


def _answer(request: bytes) -> Iterator[bytes]:
    """Yield the messages that answer a request: ``("value", ...)`` and at last ``("end", None)``.

    What the operation raises is ``("error", text)``.
    """
    operation, args = pickle.loads(request)
    try:
        returned = _operations()[operation](*args)
        for value in returned if isinstance(returned, Iterator) else (returned,):
            yield pickle.dumps(("value", value))
    except (Exception, SystemExit) as error:
        yield pickle.dumps(("error", told(error)))
    else:
        yield pickle.dumps(("end", None))


def _operations() -> dict[str, Callable[..., Any]]:
    from argus_core.testing.checking import part_results
    from argus_core.testing.operations import OPERATIONS

    return {**OPERATIONS, "part_results": part_results}
