"""The trial import of components, in a process that `isolation` starts.

It sends the result for each component at once, so that the component after the last result is the one that
ended the process.
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

# Raised if a target does not exist, or cannot be called.
_OF_ENTRY_POINTS = (AttributeError, ModuleNotFoundError, TypeError, ValueError)

Finding = dict[str, str]
"""A fault with its sort, problem and fix; a note if the sort is empty."""


def main() -> None:
    """Load the components of the request on standard input, and exit."""
    os.environ.pop("ARGUS_STRICT_PLUGINS", None)  # failures become sentences
    faulthandler.enable()
    serve(_answer, *own_streams())


def _answer(order: bytes) -> Iterator[bytes]:
    asked = json.loads(order)
    for kind, name, provider, version, target in asked["components"]:
        # A little before the reader's time limit, so that it finds the hanging line on standard error.
        faulthandler.dump_traceback_later(asked["timeout"] * 0.9)
        found = [*try_component(Component.declared(kind, name, (provider, version), target))]
        faulthandler.cancel_dump_traceback_later()
        yield json.dumps(found).encode()


def try_component(component: Component) -> Iterator[Finding]:
    """Load one component, and yield its faults."""
    try:
        factory = component.load()
    except BrokenPluginError as error:
        yield _failure(component, error)
        return
    except KeyboardInterrupt as error:  # raised by its module, since there is no keyboard
        problem = f"cannot be imported: KeyboardInterrupt ({raised_at(error)})"
        yield {"sort": "import", "problem": problem, "fix": f"upgrade or reinstall {component.provider}"}
        return
    try:
        for problem in misspelled_hooks(component, factory):
            fix = f"correct {written_at(factory) or component.target}, or upgrade {component.provider}"
            yield {"sort": "hook", "problem": problem, "fix": fix}
    except LookupError as error:
        yield {"sort": "", "problem": f"its hooks are not checked: {error}", "fix": ""}


def _failure(component: Component, broken: BrokenPluginError) -> Finding:
    problem, fix = failure(broken)
    cause = broken.__cause__
    if component.target in ADDED_IN:
        return {"sort": "", "problem": problem, "fix": ""}
    if isinstance(cause, _OF_ENTRY_POINTS) and not raised_at(cause):
        change = f'correct {component.name} = "{component.target}"'
        fix = correct_entry_point(str(component.provider), change)
        return {"sort": "entry point", "problem": str(cause), "fix": fix}
    # Without the component's name, equal reasons of many components are grouped.
    label = f"{component.kind} {component.name!r} of {component.origin}"
    reason = problem.removeprefix(f"{label} cannot be loaded from {component.target!r}: ")
    return {"sort": "import", "problem": f"cannot be imported: {reason}", "fix": fix}
