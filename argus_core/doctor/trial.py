"""Trial: loads components in the process that it runs in, and tells what it finds. `isolation` starts it.

It writes a line of JSON when it begins with a component, when the module has been imported, and when the
component is done; whoever reads them knows what was being done when they end.
"""

from __future__ import annotations

import faulthandler
import functools
import importlib.util
import inspect
import json
import os
import pkgutil
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn, TextIO

from argus_core.doctor.implementations import misspelled_hooks
from argus_core.doctor.place import raised_at
from argus_core.errors import near
from argus_core.registry.component import Component, Factory
from argus_core.registry.torch_versions import ADDED_IN

__all__ = ["main", "try_component"]

Finding = dict[str, str]
"""A fault, or a note where it has no sort: sort, problem and fix."""


def main() -> NoReturn:
    """Try the components that standard input names, each for so many seconds, and end the process."""
    orders, channel = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    for standard in (0, 1):  # what plugins print is nobody's business here, and nobody answers them
        os.dup2(os.open(os.devnull, os.O_RDWR), standard)
    order = json.loads(orders.readline())
    threading.Thread(target=_end_with_reader, args=(orders,), daemon=True).start()
    faulthandler.enable()
    for index, (kind, name, provider, version, target) in enumerate(order["components"]):
        component = Component.declared(kind, name, (provider, version), target)
        _send(channel, {"begin": index})
        # A little before the reader loses its patience: it finds on standard error where this one hangs.
        faulthandler.dump_traceback_later(order["timeout"] * 0.9)
        found = [*try_component(component, functools.partial(_send, channel, {"imported": index}))]
        faulthandler.cancel_dump_traceback_later()
        _send(channel, {"end": index, "findings": found})
    _send(channel, {"done": True})
    os._exit(0)  # threads and exit handlers of plugins have no say


def _end_with_reader(orders: TextIO) -> None:
    """Wait for the end of those who gave the orders, and end with them, whatever a plugin is about."""
    orders.read()
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)  # a session of its own: this process, and what plugins have started
    os._exit(1)


def _send(channel: TextIO, message: dict[str, Any]) -> None:
    print(json.dumps(message), file=channel, flush=True)


def try_component(component: Component, on_import: Any = lambda: None) -> Iterator[Finding]:
    """Load one component step by step, and yield what is wrong with it."""
    module, separator, attribute = component.target.partition(":")
    if not module or not separator or not attribute:
        yield _dead(component, f"{component.target!r} is not 'module:attribute'")
        return
    try:
        found: Any = importlib.import_module(module)
    except BaseException as error:  # SystemExit and KeyboardInterrupt too
        yield _import_fault(component, module, error)
        return
    on_import()
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            yield _missing_attribute(component, found, part)
            return
        except BaseException as error:  # of a module that imports when it is asked
            yield _broken(component, error)
            return
    if not callable(found):
        yield _dead(component, f"{component.target!r} is of type {type(found).__name__}, not a callable")
        return
    yield from _hook_faults(component, found)


def _hook_faults(component: Component, factory: Factory) -> Iterator[Finding]:
    try:
        for problem in misspelled_hooks(component, factory):
            fix = f"correct {_place(factory) or component.target}, or upgrade {component.provider}"
            yield {"sort": "hook", "problem": problem, "fix": fix}
    except LookupError as error:
        yield {"sort": "", "problem": f"its hooks are checked when it is built: {error}", "fix": ""}


def _import_fault(component: Component, module: str, error: BaseException) -> Finding:
    absent = error.name if isinstance(error, ModuleNotFoundError) else None
    if absent and (module == absent or module.startswith(f"{absent}.")):
        parent = sys.modules.get(absent.rpartition(".")[0])
        siblings = [each.name for each in pkgutil.iter_modules(getattr(parent, "__path__", []))]
        if parent is not None or "." not in absent:
            return _dead(
                component, f"there is no module {absent!r}{near(absent.rpartition('.')[2], siblings)}"
            )
    return _broken(component, error)


def _missing_attribute(component: Component, owner: Any, name: str) -> Finding:
    if component.target in ADDED_IN:
        problem = f"it is not in the installed torch, but in torch {ADDED_IN[component.target]} and newer"
        return {"sort": "", "problem": problem, "fix": ""}
    known = [each for each in dir(owner) if not each.startswith("_")]
    what = f"module {owner.__name__!r}" if inspect.ismodule(owner) else repr(owner)
    return _dead(component, f"{what} has no {name!r}{near(name, known, 2)}")


def _dead(component: Component, problem: str) -> Finding:
    provider = component.provider
    fix = (
        f'correct {component.name} = "{component.target}" in the pyproject.toml of {provider} and install it '
        f"again; if it is not yours, upgrade or uninstall {provider}"
    )
    return {"sort": "entry point", "problem": problem, "fix": fix}


def _broken(component: Component, error: BaseException) -> Finding:
    lines = traceback.format_exception_only(type(error), error)
    said = next(line for line in lines if not line.startswith(" ")).strip().partition("\n")[0]
    where = raised_at(error, __file__) or "its module"
    absent = error.name if isinstance(error, ModuleNotFoundError) else None
    provider = component.provider
    root = (absent or "").partition(".")[0]
    if root and root != component.target.partition(":")[0].partition(".")[0]:
        fix = f"install the package that provides {root!r}, or upgrade {provider}"
    elif isinstance(error, SyntaxError):
        fix = f"correct {where}, or upgrade {provider}: it may be made for another Python"
    elif _is_own(where, component):
        fix = f"correct {where}, or upgrade or reinstall {provider}"
    else:  # such as two packages of which one was built for another version of the other
        fix = f"upgrade or reinstall {provider} and what it requires: one of these does not import"
    return {"sort": "import", "problem": f"cannot be imported: {said} ({where})", "fix": fix}


def _is_own(where: str, component: Component) -> bool:
    """Return whether a place is in the package that a component is declared to be in."""
    root = component.target.partition(":")[0].partition(".")[0]
    spec = importlib.util.find_spec(root)
    if spec is None:
        return False
    folders = [os.path.join(folder, "") for folder in spec.submodule_search_locations or ()]
    return where.startswith((*folders, f"{spec.origin}:"))


def _place(factory: Factory) -> str | None:
    try:
        return f"{inspect.getsourcefile(factory)}:{inspect.getsourcelines(factory)[1]}"
    except (TypeError, OSError):
        return None
