"""Trial: loads components in the process that it runs in, and tells what it finds. `isolation` starts it.

It sends what was found of each component as soon as that is done: what it was about when it ends is the next.
"""

from __future__ import annotations

import faulthandler
import json
import os
from collections.abc import Iterator

from argus_core.doctor.declarations import correct_entry_point
from argus_core.doctor.implementations import misspelled_hooks
from argus_core.doctor.place import failure, raised_at, written_at
from argus_core.doctor.process import own_streams, serve
from argus_core.errors import BrokenPluginError
from argus_core.registry.component import ADDED_IN, Component

__all__ = ["main", "try_component"]

# What is raised where a target leads to nothing, or to what cannot be called.
_OF_ENTRY_POINTS = (AttributeError, ModuleNotFoundError, TypeError, ValueError)

Finding = dict[str, str]
"""A fault, or a note where it has no sort: sort, problem and fix."""


def main() -> None:
    """Try the components that standard input names, each for so many seconds, and end the process."""
    os.environ.pop("ARGUS_STRICT_PLUGINS", None)  # failures are told in sentences
    faulthandler.enable()
    serve(_answer, *own_streams())


def _answer(order: bytes) -> Iterator[bytes]:
    asked = json.loads(order)
    for kind, name, provider, version, target in asked["components"]:
        # A little before the reader loses its patience: it finds on standard error where this one hangs.
        faulthandler.dump_traceback_later(asked["timeout"] * 0.9)
        found = [*try_component(Component.declared(kind, name, (provider, version), target))]
        faulthandler.cancel_dump_traceback_later()
        yield json.dumps(found).encode()


def try_component(component: Component) -> Iterator[Finding]:
    """Load one component, and yield what is wrong with it."""
    try:
        factory = component.load()
    except BrokenPluginError as error:
        yield _failure(component, error)
        return
    except KeyboardInterrupt as error:  # of its module: nobody is at the keyboard
        problem = f"cannot be imported: KeyboardInterrupt ({raised_at(error)})"
        yield {"sort": "import", "problem": problem, "fix": f"upgrade or reinstall {component.provider}"}
        return
    try:
        for problem in misspelled_hooks(component, factory):
            fix = f"correct {written_at(factory) or component.target}, or upgrade {component.provider}"
            yield {"sort": "hook", "problem": problem, "fix": fix}
    except LookupError as error:
        yield {"sort": "", "problem": f"its hooks are checked when it is built: {error}", "fix": ""}


def _failure(component: Component, broken: BrokenPluginError) -> Finding:
    problem, fix = failure(broken)
    cause = broken.__cause__
    if component.target in ADDED_IN:
        return {"sort": "", "problem": problem, "fix": ""}
    if isinstance(cause, _OF_ENTRY_POINTS) and not raised_at(cause):
        change = f'correct {component.name} = "{component.target}"'
        fix = correct_entry_point(str(component.provider), change)
        return {"sort": "entry point", "problem": str(cause), "fix": fix}
    part = f"{component.kind} {component.name!r} of {component.origin}"  # the same reason may break hundreds
    reason = problem.removeprefix(f"{part} cannot be loaded from {component.target!r}: ")
    return {"sort": "import", "problem": f"cannot be imported: {reason}", "fix": fix}
