"""Isolation: components are loaded in processes of their own, and those that do not end are ended."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple

from argus_core.doctor.fault import Fault
from argus_core.registry.component import Component
from argus_core.registry.diagnosis import quoted

__all__ = ["Outcome", "Trials"]

# Until it is told not to, Python looks for modules in the current folder, where a stranger's may lie; from
# Python 3.13 on before the code runs.
_SAFE = ["-P"] if sys.version_info >= (3, 11) else []
_CODE = "import sys; sys.path[:] = sys.argv[1:]; from argus_core.doctor.trial import main; main()"
_MOST_HANGING = 3  # modules of one provider; each is waited for as long as the time limit
_PATIENCE = 0.1  # seconds between two looks at whether a process is still there
_LAST_PATIENCE = 2.0  # and for the messages of one that is gone
_FRAME = re.compile(r'^  File "(.+?)", line (\d+)', re.MULTILINE)


class Outcome(NamedTuple):
    """What a trial of one component found: at most one of these is not empty, and a note is no fault."""

    component: Component
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()


class _End(NamedTuple):
    """How a process ended before it was done: with which component, after its import or not, and why."""

    number: int
    imported: bool
    sort: str
    problem: str
    place: str


class Trials:
    """Loads components in processes of their own; a context manager that ends them all.

    Args:
        path: where the processes look for modules, as ``sys.path``.
        timeout: the seconds that a component may take.
    """

    def __init__(self, path: Sequence[str], timeout: float) -> None:
        self._path = [os.fsdecode(each) for each in path]
        self._timeout = timeout
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_over = False

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True  # threads that are still at work start no more
        for process in tuple(self._running):
            _end(process)

    def of(self, components: Sequence[Component]) -> Iterator[Outcome]:
        """Yield the outcome of each component of one provider.

        They share a process until one hangs or crashes; each one after that has a process of its own.
        """
        batches = deque([list(components)] if components else [])
        lost: dict[str, _End] = {}  # modules whose import does not come to an end
        while batches and not self._is_over:
            batch = batches.popleft()
            module = batch[0].target.partition(":")[0]
            if module in lost:
                yield _lost(batch[0], lost[module])
                continue
            if sum(each.sort == "hang" for each in lost.values()) >= _MOST_HANGING:
                yield from (_untried(each) for each in batch)
                continue
            end: _End | None = None
            for each in self._run(batch):
                if isinstance(each, Outcome):
                    yield each
                else:
                    end = each
            if end is not None:
                yield _lost(batch[end.number], end)
                if not end.imported:
                    lost[batch[end.number].target.partition(":")[0]] = end
                batches.extendleft([component] for component in reversed(batch[end.number + 1 :]))

    def _run(self, batch: Sequence[Component]) -> Iterator[Outcome | _End]:
        with tempfile.TemporaryFile() as errors:
            process = self._start(batch, errors)
            try:
                yield from self._follow(process, batch, errors)
            finally:
                _end(process)
                self._running.discard(process)

    def _start(self, batch: Sequence[Component], errors: IO[bytes]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, *_SAFE, "-c", _CODE, *self._path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # so that what a plugin starts can be ended with it
        )
        self._running.add(process)
        asked = [[each.kind, each.name, each.provider, each.version, each.target] for each in batch]
        orders = json.dumps({"components": asked, "timeout": self._timeout}).encode() + b"\n"
        assert process.stdin is not None
        # By a thread: a process that does not come to reading them would hold this one up.
        threading.Thread(target=_write, args=(process.stdin, orders), daemon=True).start()
        return process

    def _follow(
        self, process: subprocess.Popen[bytes], batch: Sequence[Component], errors: IO[bytes]
    ) -> Iterator[Outcome | _End]:
        index, imported = 0, False
        for message in _messages(process, self._timeout):
            if "begin" in message:
                index, imported = message["begin"], False
            elif "imported" in message:
                imported = True
            elif "end" in message:
                yield _outcome(batch[index], message["findings"])
                index += 1
            elif "done" in message:
                return
            elif "timeout" in message:
                problem = f"is not {'looked at' if imported else 'imported'} within {self._timeout:g} s"
                yield _End(index, imported, "hang", problem, _last_place(errors))
                return
        yield _End(index, imported, "crash", _how_it_ended(process, errors), _last_place(errors))


def _messages(process: subprocess.Popen[bytes], timeout: float) -> Iterator[dict[str, Any]]:
    """Yield a process's messages until it ends; ``{"timeout": True}`` if there is none for so long."""
    lines: queue.Queue[bytes] = queue.Queue()
    assert process.stdout is not None
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    deadline = time.monotonic() + timeout
    while True:
        over = process.poll() is not None  # looked at before the queue: what it has sent is there by then
        try:
            line = lines.get(timeout=_LAST_PATIENCE if over else _PATIENCE)
        except queue.Empty:
            # Not the end of the pipe: a process that the plugin has started may hold it open.
            if over:
                return
            if time.monotonic() > deadline:
                yield {"timeout": True}
                return
            continue
        if not line:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            return
        deadline = time.monotonic() + timeout
        yield json.loads(line)


def _read(stream: IO[bytes], lines: queue.Queue[bytes]) -> None:
    with contextlib.suppress(ValueError, OSError):  # closed meanwhile
        for line in stream:
            lines.put(line)
    lines.put(b"")


def _write(stream: IO[bytes], orders: bytes) -> None:
    with contextlib.suppress(ValueError, OSError):  # closed meanwhile, or nobody reads
        stream.write(orders)
        stream.flush()  # not closed: its end tells the process that this one is gone


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # its group has its number, and outlives it
    else:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _outcome(component: Component, findings: Sequence[dict[str, str]]) -> Outcome:
    faults = [
        _fault(component, each["sort"], each["problem"], each["fix"]) for each in findings if each["sort"]
    ]
    notes = [
        f"{_subject(component)} of {component.origin}: {each['problem']}"
        for each in findings
        if not each["sort"]
    ]
    return Outcome(component, tuple(faults), tuple(notes))


def _lost(component: Component, end: _End) -> Outcome:
    module, provider = component.target.partition(":")[0], component.provider
    where = f" (at {end.place})" if end.place else ""
    if end.sort == "hang":
        fix = (
            f"wait for nothing at import in {end.place or module}, upgrade {provider}, or switch it off by "
            f"ARGUS_DISABLE_PLUGINS={provider}; if it is only slow, allow more by --timeout"
        )
    else:
        fix = (
            f"see more by python -X faulthandler -c {quoted(f'import {module}')}, upgrade or reinstall "
            f"{provider} and what it is built on, or switch it off by ARGUS_DISABLE_PLUGINS={provider}"
        )
    return Outcome(component, (_fault(component, end.sort, end.problem + where, fix),))


def _untried(component: Component) -> Outcome:
    reason = f"was not loaded, since {_MOST_HANGING} modules of its provider do not come to an end"
    return Outcome(component, notes=(f"{_subject(component)} of {component.origin}: {reason}",))


def _fault(component: Component, sort: str, problem: str, fix: str) -> Fault:
    return Fault(sort, (component.origin,), _subject(component), problem, fix)


def _subject(component: Component) -> str:
    return f"{component.kind} {component.name!r}"


def _how_it_ended(process: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    status = process.returncode
    if status is None:
        return "closes the files of its process when it is imported"
    if status >= 0:
        said = _last_line(errors)
        return f"ends the process with status {status} when it is imported" + (f": {said}" if said else "")
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = ", perhaps for want of memory" if name == "SIGKILL" else ""
    return f"crashes the process when it is imported: {name}{hint}"


def _last_line(errors: IO[bytes]) -> str:
    lines = _tail(errors).strip().splitlines()
    return lines[-1].strip() if lines else ""


def _last_place(errors: IO[bytes]) -> str:
    """Return where the main thread was, as faulthandler told it: the newest place past Python's own files."""
    told = re.split(r"^(?:Current t|T)hread .*$", _tail(errors), flags=re.MULTILINE)[-1]
    places = _FRAME.findall(told)
    own = (sysconfig.get_path("stdlib"), "<frozen")
    of_others = [each for each in places if not each[0].startswith(own) or "site-packages" in each[0]]
    return ":".join((of_others or places or [()])[0])


def _tail(errors: IO[bytes]) -> str:
    errors.seek(0, os.SEEK_END)
    errors.seek(max(0, errors.tell() - 20_000))
    return errors.read().decode(errors="replace")
