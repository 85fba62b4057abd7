"""Isolation: components are loaded in separate processes, which are killed if they hang."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sysconfig
from collections.abc import Callable, Iterator, Sequence

from argus_core.doctor.fault import Fault
from argus_core.doctor.process import Isolated
from argus_core.registry.component import Component

__all__ = ["Trials"]

_CODE = "import sys; sys.path[:] = sys.argv[1:]; from argus_core.doctor.trial import main; main()"
_MOST_HANGING = 3  # modules of one package; each takes the whole time limit
_LAST_PATIENCE = 2.0  # seconds for the status of a process that has closed its files
_FRAME = re.compile(r'^  File "(.+?)", line (\d+)', re.MULTILINE)


class Trials:
    """Loads components in separate processes; a context manager that kills all of them at its end.

    Args:
        path: ``sys.path`` of the processes.
        timeout: the seconds that a component may take.
        on_loaded: called with each loaded component, in the thread that loaded it.
    """

    def __init__(
        self, path: Sequence[str], timeout: float, on_loaded: Callable[[Component], None] = lambda _: None
    ) -> None:
        self._path = [os.fsdecode(each) for each in path]
        self._timeout = timeout
        self._on_loaded = on_loaded
        self._running: set[Isolated] = set()
        self._is_over = False

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True  # running threads start no further processes
        for program in tuple(self._running):
            program.end()

    def of(self, components: Sequence[Component]) -> Iterator[Fault]:
        """Yield the faults of the components of one package; a fault without a sort is a note.

        The components share a process. If one hangs or crashes, those of other modules share a new process.
        """
        rest, hanging = [*components], 0
        while rest and not self._is_over:
            if hanging == _MOST_HANGING:
                why = f"was not loaded, since {hanging} modules of its package hang"
                yield from (_fault(each, "", why) for each in rest)
                return
            with Isolated(_CODE, self._path) as program:
                self._running.add(program)
                try:
                    answers = program.answers(_order(rest, self._timeout), self._timeout)
                    for component, message in zip(rest, answers, strict=False):
                        yield from (_fault(component, **each) for each in json.loads(message))
                        self._on_loaded(component)
                        rest = rest[1:]
                    if not rest:
                        return
                    told = "crash", _how_it_ended(program)
                except TimeoutError:
                    told = "hang", f"is not imported within {self._timeout:g} s"
                    hanging += 1
                finally:
                    self._running.discard(program)
                place = _last_place(program)
            lost = [each for each in rest if _module(each) == _module(rest[0])]
            yield from (_lost(each, *told, place) for each in lost)
            rest = [each for each in rest if each not in lost]


def _order(components: Sequence[Component], timeout: float) -> bytes:
    asked = [[each.kind, each.name, each.provider, each.version, each.target] for each in components]
    return json.dumps({"components": asked, "timeout": timeout}).encode()


def _module(component: Component) -> str:
    return component.target.partition(":")[0]


def _fault(component: Component, sort: str, problem: str, fix: str = "") -> Fault:
    return Fault(sort, (component.origin,), f"{component.kind} {component.name!r}", problem, fix)


def _lost(component: Component, sort: str, problem: str, place: str) -> Fault:
    provider = component.provider
    off = f"switch it off by ARGUS_DISABLE_PLUGINS={provider}"
    fix = f"upgrade or reinstall {provider} and its requirements, or {off}"
    if sort == "hang":
        begin = f"remove the wait at import in {place or _module(component)}"
        fix = f"{begin}, upgrade {provider}, or {off}; if it is only slow, raise --timeout"
    return _fault(component, sort, problem + (f" (at {place})" if place else ""), fix)


def _how_it_ended(program: Isolated) -> str:
    try:
        status = program.process.wait(_LAST_PATIENCE)
    except subprocess.TimeoutExpired:
        return "closes the files of its process when it is imported"
    how = f"status {status}" if status >= 0 else f"signal {-status}, {signal.strsignal(-status)},"
    said = program.complaints().strip().splitlines()[-1:] if status >= 0 else []
    return ": ".join([f"ends the process with {how} when it is imported", *map(str.strip, said)])


def _last_place(program: Isolated) -> str:
    """Return where the main thread was, by faulthandler's report: the last line outside Python's library."""
    told = re.split(r"^(?:Current t|T)hread .*$", program.complaints(), flags=re.MULTILINE)[-1]
    places = _FRAME.findall(told)
    own = (sysconfig.get_path("stdlib"), "<frozen")
    of_others = [each for each in places if not each[0].startswith(own) or "site-packages" in each[0]]
    return ":".join((of_others or places or [()])[0])
