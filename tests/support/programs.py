"""Programs in Python that find torch imported, which takes seconds in a process that starts from nothing."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

from processes import running

__all__ = ["run_program"]


def run_program(
    code: str,
    *args: str,
    folder: Path,
    stdout: int | None = None,
    stderr: int | None = None,
    finalized: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, and return how it ended.

    It is a fork of the server of `processes`, which has imported torch and parts of argus_core, and no
    plugin.

    Args:
        code: the program's text.
        args: its arguments.
        folder: where it runs.
        stdout: a descriptor to print to; without one, the result has what was printed.
        stderr: likewise.
        finalized: end as the interpreter does after a program, with all that it flushes and reports then. It
            takes a second; otherwise the process ends when the program does.
    """
    if not hasattr(os, "fork"):
        return subprocess.run(
            [sys.executable, "-c", code, *args],
            cwd=folder, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        )  # fmt: skip
    with ExitStack() as stack:
        files: list[IO[bytes]] = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(2)]
        given = [stdout, stderr]
        targets = [file.fileno() if to is None else to for file, to in zip(files, given, strict=True)]
        streams = [stack.enter_context(_sendable(target)) for target in targets]
        with running(_run, code, args, folder, finalized, *streams) as (process, _):
            process.join()
            status = process.exitcode
        for file in files:
            file.seek(0)
        return subprocess.CompletedProcess(args, status, *(file.read().decode() for file in files))


@contextmanager
def _sendable(descriptor: int) -> Iterator[Connection]:
    """Return a copy of a descriptor that can be an argument of a process."""
    with Connection(os.dup(descriptor)) as connection:
        yield connection


def _run(
    code: str,
    args: tuple[str, ...],
    folder: Path,
    finalized: bool,
    stdout: Connection,
    stderr: Connection,
    _: Connection,
) -> None:
    os.chdir(folder)
    for number, stream in enumerate((stdout, stderr), 1):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.argv = ["-c", *args]
    status = 0
    try:
        exec(compile(code, "<program>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        status = 1
    if finalized:
        ctypes.pythonapi.Py_Exit(status)
    raise SystemExit(status)
