"""The objects that a dataset holds: its own random number generators, and whether reading changes the rest.

A batch is read a second time only from a dataset that reading leaves as it was, as far as its objects tell.
"""

from __future__ import annotations

import functools
import types
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import PurePath
from typing import Any

import numpy
import torch

from argus_core.tensors.generators import is_generator

__all__ = ["Holdings"]

_MOST_ITEMS = 100  # of a container that are looked into; longer ones hold samples
_MOST_OBJECTS = 1000
_PLAIN = (
    type(None), bool, int, float, complex, str, bytes, range, slice, type, torch.dtype, torch.device,
    numpy.dtype, numpy.generic, PurePath, types.ModuleType, types.BuiltinFunctionType,
)  # fmt: skip
_CONTAINERS = (list, tuple, dict, set, frozenset, deque)
_OPEN = (
    *_CONTAINERS,
    types.FunctionType,
    types.MethodType,
    types.CellType,
    types.SimpleNamespace,
    functools.partial,
)
_CLASS_STATEMENT = 1 << 9  # Py_TPFLAGS_HEAPTYPE, which the types of most extensions lack


class Holdings:
    """The objects that are found from a dataset's attributes, at one moment.

    Attributes:
        generators: among them, in the order in which they are found.
        is_whole: all objects could be looked into, and none is an iterator, which reading would advance.
    """

    def __init__(self, *roots: Any) -> None:
        self.generators: list[Any] = []
        self.is_whole = True
        self._found: dict[Any, tuple[Any, int]] = {}
        waiting: deque[tuple[tuple[Any, ...], Any]] = deque()
        waiting.extend(((number,), root) for number, root in enumerate(roots))
        seen: set[int] = set()
        while waiting:
            path, value = waiting.popleft()
            self._found[path] = value, _version(value)
            if isinstance(value, (*_PLAIN, torch.Tensor, numpy.ndarray)) or id(value) in seen:
                continue
            seen.add(id(value))
            if is_generator(value):
                self.generators.append(value)
            elif hasattr(type(value), "__next__") or not _is_open(value) or len(seen) > _MOST_OBJECTS:
                self.is_whole = False
            else:
                waiting.extend(((*path, name), each) for name, each in _parts(value))

    def changed(self, before: Holdings) -> list[Any]:
        """Return the values that are other objects, or of another length or version, than before."""
        other = object(), 0
        values = [
            value
            for path, (value, version) in self._found.items()
            if before._found.get(path, other)[0] is not value or before._found[path][1] != version
        ]
        return [*values, *(None for path in before._found if path not in self._found)]


def _version(value: Any) -> int:
    if isinstance(value, _CONTAINERS):
        return len(value)
    return value._version if isinstance(value, torch.Tensor) and not value.is_inference() else 0


def _is_open(value: Any) -> bool:
    """Return whether everything that an object holds can be found from Python."""
    is_made_in_python = _has_attributes(value) and type(value).__flags__ & _CLASS_STATEMENT
    return isinstance(value, _OPEN) or bool(is_made_in_python)


def _has_attributes(value: Any) -> bool:
    return type(value).__dictoffset__ != 0  # does not ask the object, which may make attributes up


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the objects that an open object holds, each with a name."""
    if isinstance(value, _CONTAINERS):
        if len(value) <= _MOST_ITEMS:
            yield from list(value.items()) if isinstance(value, dict) else enumerate(list(value))
    elif isinstance(value, types.FunctionType):
        yield "defaults", value.__defaults__
        yield from enumerate(value.__closure__ or ())
        return
    elif isinstance(value, types.MethodType):
        yield "self", value.__self__
    elif isinstance(value, types.CellType):
        with suppress(ValueError):  # it is empty
            yield "contents", value.cell_contents
    elif isinstance(value, functools.partial):
        yield from enumerate((value.func, value.args, value.keywords))
    if _has_attributes(value):
        yield from list(vars(value).items())
