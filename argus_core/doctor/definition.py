"""Definition: the file and line that an entry point leads to, read from source; nothing is imported."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import NamedTuple

from argus_core.files.ordinary_files import read_ordinary

__all__ = ["Place", "find_definition", "find_source"]

_LARGEST = 2**21  # bytes of source; its tree takes a hundred times as much
_Seen = set[tuple[str, ...]]  # module and names that were looked for: modules may import * from each other


class Place(NamedTuple):
    """A line of a file, counted from 1."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


def find_definition(target: str) -> Place | None:
    """Return where ``module:attribute`` is defined, following re-exports.

    None where that cannot be told from source: compiled code, names made when the module runs, or nothing
    there at all.
    """
    module, _, attribute = target.partition(":")
    if not module or not attribute:
        return None
    try:
        return _in_module(module, attribute.split("."), set())
    except (RecursionError, MemoryError):  # of code that is nested beyond measure
        return None


def find_source(module: str) -> Path | None:
    """Return the source file of a module, found without importing it or the packages it is in."""
    spec = _find_spec(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)


def _find_spec(module: str) -> ModuleSpec | None:
    root, *rest = module.split(".")
    try:
        # Of a name without dots this imports nothing; of any other, the packages that the module is in.
        spec = importlib.util.find_spec(root)
    except (ImportError, AttributeError, ValueError):
        return None
    path = root
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        path += f".{part}"
        spec = PathFinder.find_spec(path, list(spec.submodule_search_locations))
    return spec


def _in_module(module: str, names: Sequence[str], seen: _Seen) -> Place | None:
    path = find_source(module)
    if path is None or (module, *names) in seen:
        return None
    seen.add((module, *names))
    try:
        tree = ast.parse(read_ordinary(path, _LARGEST))
    except (OSError, SyntaxError, ValueError):
        return None
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = _last(tree.body, names[0])
    if found is not None:
        return _follow(found, path, package, names, seen)
    if find_source(f"{module}.{names[0]}") and names[1:]:  # an attribute of the package, once it is imported
        return _in_module(f"{module}.{names[0]}", names[1:], seen)
    starred = (each for each in _statements(tree.body) if _is_star(each))
    places = (_in_module(_source_of(each, package), names, seen) for each in reversed([*starred]))
    return next((place for place in places if place is not None), None)


def _follow(found: ast.stmt, path: Path, package: str, names: Sequence[str], seen: _Seen) -> Place | None:
    if isinstance(found, ast.ImportFrom):
        source = _source_of(found, package)
        original = next(alias.name for alias in found.names if _bound(alias) == names[0])
        place = _in_module(source, [original, *names[1:]], seen)
        return place or Place(path, found.lineno)
    if isinstance(found, ast.Import) and names[1:]:
        alias = next(alias for alias in found.names if _bound(alias) == names[0])
        imported = alias.name if alias.asname else names[0]
        return _in_module(imported, names[1:], seen)
    if isinstance(found, ast.ClassDef) and names[1:]:
        inner = _last(found.body, names[1])
        return None if inner is None else _follow(inner, path, package, names[1:], seen)
    return Place(path, found.lineno)


def _last(body: Sequence[ast.stmt], name: str) -> ast.stmt | None:
    """Return the statement that binds a name: the last, as Python has it, or else one in an ``except``."""
    binding = [each for each in _statements(body) if name in _names(each)]
    fallback = (each for each in _statements(body, handlers=True) if name in _names(each))
    return binding[-1] if binding else next(fallback, None)


def _statements(body: Sequence[ast.stmt], handlers: bool = False) -> Iterator[ast.stmt]:
    """Walk statements in order, those in ``if``, ``try`` and ``with`` too, past functions and classes."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            yield from _statements(statement.body, handlers)
        if isinstance(statement, ast.Try) and handlers:
            for handler in statement.handlers:
                yield from _statements(handler.body, handlers)
        if isinstance(statement, ast.If | ast.Try):
            yield from _statements(statement.orelse, handlers)


def _names(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {_bound(alias) for alias in statement.names}
    if isinstance(statement, ast.Assign):
        targets = [node for target in statement.targets for node in ast.walk(target)]
        return {node.id for node in targets if isinstance(node, ast.Name)}
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return {statement.target.id}
    return set()


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _is_star(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*"


def _source_of(statement: ast.stmt, package: str) -> str:
    """Return the module that a ``from`` imports from, written absolutely."""
    assert isinstance(statement, ast.ImportFrom)
    if not statement.level:
        return statement.module or ""
    parents = package.split(".")
    above = parents[: len(parents) - statement.level + 1]
    return ".".join([*above, *([statement.module] if statement.module else [])])
