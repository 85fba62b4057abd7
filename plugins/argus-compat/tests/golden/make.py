"""Runs the scripts on the ``argus`` that is installed here and writes down what they found.

With pytorch-argus 1.1.0 installed in place of argus-compat, ``python make.py`` writes ``results.json``,
``interface.json`` and the ``.pth`` files beside it. With the name of a folder it writes the first two there.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import pkgutil
import runpy
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE.parent / "scripts"
KEPT = {"loading": ["model.pth", "fixed.pth"]}


def results(keep: bool) -> dict[str, Any]:
    """Return what each script returns."""
    found = {}
    for script in sorted(SCRIPTS.glob("*.py")):
        if script.stem == "blobs":
            continue
        with tempfile.TemporaryDirectory() as folder:
            found[script.stem] = runpy.run_path(str(script))["main"](Path(folder))
            for name in KEPT.get(script.stem, []) if keep else []:
                shutil.copy(Path(folder) / name, HERE / name)
    return found


def interface() -> dict[str, Any]:
    """Return the public names of each module of argus, with the arguments of what can be called."""
    import argus

    modules = [argus, *(importlib.import_module(each.name) for each in _modules(argus))]
    return {module.__name__: _members(module) for module in modules}


def _modules(package: Any) -> list[Any]:
    return list(pkgutil.walk_packages(package.__path__, package.__name__ + "."))


def _members(module: Any) -> dict[str, Any]:
    names = getattr(module, "__all__", None) or [
        name for name, value in vars(module).items() if getattr(value, "__module__", "").startswith("argus.")
    ]
    return {name: _member(getattr(module, name)) for name in sorted(names) if not name.startswith("_")}


def _member(value: Any) -> Any:
    if inspect.isclass(value):
        public = {name: each for name, each in inspect.getmembers(value) if not name.startswith("_")}
        methods = {name: _arguments(each) for name, each in public.items() if inspect.isroutine(each)}
        return {"()": _arguments(value), **methods}
    return _arguments(value) if inspect.isfunction(value) else None


def _arguments(value: Any) -> list[list[str]] | None:
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return None
    return [[each.name, each.kind.name, _default(each.default)] for each in parameters if each.name != "self"]


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return ""
    return getattr(value, "__name__", None) or repr(value)


def main() -> None:
    sys.path.insert(0, str(SCRIPTS))
    torch.set_num_threads(1)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for name, found in (("results", results(folder == HERE)), ("interface", interface())):
        text = json.dumps(found, indent=1, sort_keys=True) + "\n"
        (folder / f"{name}.json").write_text(text)
        print(name, hashlib.sha256(text.encode()).hexdigest())


if __name__ == "__main__":
    main()
