"""The server that runs operations in fresh processes; `argus_core.testing.fresh_process` starts it."""

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
    """Listen at a socket until standard input ends; without a socket, answer one request there."""
    orders, answers = own_streams()
    if arguments:
        listen(arguments[0], orders, answers)
    else:
        serve(_answer, orders, answers)


def listen(path: str, orders: IO[bytes], answers: IO[bytes]) -> None:
    """Answer each request in a fork.

    Args:
        path: the path of the socket.
        orders: a stream that ends when the server is no longer needed.
        answers: the stream that receives one message when the server listens, and is closed then.
    """
    _operations()  # imports torch, before all forks
    importlib.import_module("torch._dynamo")  # otherwise an optimizer's first step imports it
    os.environ[SERVER] = path  # for requests from forks
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(16)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system reaps the forks
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
    """Answer in a fork of the server, in its own session, and exit."""
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        stream: Any = channel.makefile("rwb")
        write_message(stream, str(os.getpid()).encode())
        serve(_answer, stream, stream)
    finally:
        os._exit(1)  # a fork must never continue as the server


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
