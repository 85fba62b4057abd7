"""The file and line of a component's definition, found in the source without an import."""

from __future__ import annotations

import ast
import importlib.util
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

from argus_core.files.ordinary_files import read_ordinary

__all__ = ["Place", "find_definition"]

_LARGEST = 2**21  # bytes of source; its tree takes a hundred times as much


class Place(NamedTuple):
    """A line of a file, counted from 1."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


def find_definition(target: str) -> Place | None:
    """Return the line where the module of ``module:attribute`` defines or imports the attribute.

    Return None if the source does not have it: compiled code, or a name that is created when the module runs.
    """
    module, _, attribute = target.partition(":")
    path = _find_source(module)
    if path is None:
        return None
    line = None
    try:
        node: ast.AST = ast.parse(read_ordinary(path, _LARGEST))
        for name in attribute.split("."):
            node = next(each for each in ast.walk(node) if _bound(each) == name)
            line = getattr(node, "lineno", None)
    except StopIteration:
        pass  # such as an attribute of an imported module: the line of the import is used
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return None if line is None else Place(path, line)


def _find_source(module: str) -> Path | None:
    """Return the source file of a module, without importing it or its packages."""
    path, *rest = module.split(".")
    try:
        # For a name with dots find_spec would import the packages around the module.
        spec = importlib.util.find_spec(path)
    except (ImportError, AttributeError, ValueError):
        return None
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        path += f".{part}"
        spec = PathFinder.find_spec(path, list(spec.submodule_search_locations))
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _bound(node: ast.AST) -> str | None:
    """Return the name that a node of a module's syntax tree binds, or None."""
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return node.name
        case ast.alias():
            return node.asname or node.name.partition(".")[0]
        case ast.Name(ctx=ast.Store()):
            return node.id
    return None
