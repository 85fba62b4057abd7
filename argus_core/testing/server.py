"""Answers requests for operations, each in a fresh process; `argus_core.testing.fresh_process` starts it.

::

    python -m argus_core.testing.server SOCKET     listens, until its standard input ends
    python -m argus_core.testing.server            answers one request, from standard input on standard output
"""

from __future__ import annotations

import importlib
import os
import pickle
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

from argus_core.testing.contract import told
from argus_core.testing.fresh_process import SERVER, receive, send

__all__ = ["answer", "listen", "main"]

_LENGTH = 8


def main(arguments: list[str]) -> None:
    """Listen at a socket, or answer the one request on standard input."""
    if arguments:
        listen(arguments[0])
        return
    with os.fdopen(_kept_output(), "wb") as output:
        for message in answer(sys.stdin.buffer.read()):
            output.write(len(message).to_bytes(_LENGTH, "big") + message)
            output.flush()


def listen(path: str) -> None:
    """Answer each request in a fork, which ends after it."""
    _operations()  # imports torch, here and never again
    importlib.import_module("torch._dynamo")  # which an optimizer would import in its first step
    os.environ[SERVER] = path  # what a request asks of fresh processes comes here
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(16)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
        print("listening", flush=True)
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            channel, _ = listener.accept()
            with channel:
                if os.fork() == 0:
                    _serve(channel)


def answer(request: bytes) -> Iterator[bytes]:
    """Yield the messages that answer a request: ``("value", ...)`` and at last ``("end", None)``.

    What the operation raises is ``("error", text)``.
    """
    operation, args, _ = pickle.loads(request)
    try:
        returned = _operations()[operation](*args)
        for value in returned if isinstance(returned, Iterator) else (returned,):
            yield pickle.dumps(("value", value))
    except (Exception, SystemExit) as error:
        yield pickle.dumps(("error", told(error)))
    else:
        yield pickle.dumps(("end", None))


def _serve(channel: socket.socket) -> None:
    """Answer as a fork of the server, and end."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(_kept_output())
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # nothing to read, for a part that asks
        request = receive(channel)
        if request is not None:
            signal.setitimer(signal.ITIMER_REAL, pickle.loads(request)[2])  # ends the process, whatever hangs
            for message in answer(request):
                send(channel, message)
    finally:
        os._exit(0)  # nothing of the server's is flushed twice


def _kept_output() -> int:
    """Return a copy of standard output, in whose place now stands standard error: a part may print."""
    kept = os.dup(1)
    os.dup2(2, 1)
    return kept


def _operations() -> dict[str, Callable[..., Any]]:
    from argus_core.testing.checking import part_results
    from argus_core.testing.operations import OPERATIONS

    return {**OPERATIONS, "part_results": part_results}


if __name__ == "__main__":
    main(sys.argv[1:])
