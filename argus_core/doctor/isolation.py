"""Isolation: components are loaded in processes of their own, and those that do not end are ended."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sysconfig
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from argus_core.doctor.fault import Fault
from argus_core.doctor.process import Isolated
from argus_core.registry.component import Component
from argus_core.registry.diagnosis import quoted

__all__ = ["Outcome", "Trials"]

_CODE = "import sys; sys.path[:] = sys.argv[1:]; from argus_core.doctor.trial import main; main()"
_MOST_HANGING = 3  # modules of one provider; each is waited for as long as the time limit
_LAST_PATIENCE = 2.0  # seconds for the status of a process that has closed its files
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
        self._running: set[Isolated] = set()
        self._is_over = False

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True  # threads that are still at work start no more
        for program in tuple(self._running):
            program.end()

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
                reason = (
                    f"was not loaded, since {_MOST_HANGING} modules of its provider do not come to an end"
                )
                yield from (_outcome(each, [{"sort": "", "problem": reason, "fix": ""}]) for each in batch)
                continue
            for each in self._run(batch):
                if isinstance(each, Outcome):
                    yield each
                    continue
                yield _lost(batch[each.number], each)
                if not each.imported:
                    lost[batch[each.number].target.partition(":")[0]] = each
                batches.extendleft([component] for component in reversed(batch[each.number + 1 :]))

    def _run(self, batch: Sequence[Component]) -> Iterator[Outcome | _End]:
        asked = [[each.kind, each.name, each.provider, each.version, each.target] for each in batch]
        order = json.dumps({"components": asked, "timeout": self._timeout}).encode()
        done, imported = 0, False
        with Isolated(_CODE, self._path) as program:
            self._running.add(program)
            try:
                for message in program.answers(order, self._timeout):
                    findings = json.loads(message)
                    imported = findings is None
                    if findings is not None:
                        yield _outcome(batch[done], findings)
                        done += 1
                    if done == len(batch):
                        return
                yield _End(done, imported, "crash", _how_it_ended(program), _last_place(program))
            except TimeoutError:
                problem = f"is not {'looked at' if imported else 'imported'} within {self._timeout:g} s"
                yield _End(done, imported, "hang", problem, _last_place(program))
            finally:
                self._running.discard(program)


def _outcome(component: Component, findings: Sequence[dict[str, str]]) -> Outcome:
    subject = f"{component.kind} {component.name!r}"
    faults = [
        Fault(each["sort"], (component.origin,), subject, each["problem"], each["fix"])
        for each in findings
        if each["sort"]
    ]
    notes = [f"{subject} of {component.origin}: {each['problem']}" for each in findings if not each["sort"]]
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
    return _outcome(component, [{"sort": end.sort, "problem": end.problem + where, "fix": fix}])


def _how_it_ended(program: Isolated) -> str:
    try:
        status = program.process.wait(_LAST_PATIENCE)
    except subprocess.TimeoutExpired:
        return "closes the files of its process when it is imported"
    if status >= 0:
        said = program.complaints().strip().splitlines()[-1:]
        return ": ".join(
            [f"ends the process with status {status} when it is imported", *map(str.strip, said)]
        )
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = ", perhaps for want of memory" if name == "SIGKILL" else ""
    return f"crashes the process when it is imported: {name}{hint}"


def _last_place(program: Isolated) -> str:
    """Return where the main thread was, as faulthandler told it: the newest place past Python's own files."""
    told = re.split(r"^(?:Current t|T)hread .*$", program.complaints(), flags=re.MULTILINE)[-1]
    places = _FRAME.findall(told)
    own = (sysconfig.get_path("stdlib"), "<frozen")
    of_others = [each for each in places if not each[0].startswith(own) or "site-packages" in each[0]]
    return ":".join((of_others or places or [()])[0])
