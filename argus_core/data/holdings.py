"""The objects that a dataset holds: its own random number generators, and whether reading changes the rest.

A batch is read a second time only from a dataset that reading leaves as it was, as far as its objects tell.
"""

from __future__ import annotations

import functools
import logging
import re
import types
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import PurePath
from typing import Any

import numpy
import torch

from argus_core.data.code_holdings import (
    generators_of_module,
    is_made_in_python,
    is_of_slots_alone,
    of_class,
    of_slots,
)
from argus_core.tensors.generators import is_generator

__all__ = ["Holdings"]

_MOST_ITEMS = 100  # of a container that are looked into; in longer ones, which hold samples, generators only
_MOST_COMPARED = 100_000  # items of a container
_MOST_BYTES = 2**24  # of an array that are compared
_MOST_OBJECTS = 1000
_PLAIN = (
    type(None), bool, int, float, complex, str, bytes, range, slice, type, torch.dtype, torch.device,
    numpy.dtype, numpy.generic, PurePath, types.ModuleType, logging.Logger, re.Pattern,
)  # fmt: skip
_CONTAINERS = (list, tuple, dict, set, frozenset, deque)
_OPEN = (
    *_CONTAINERS,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.CellType,
    types.SimpleNamespace,
    functools.partial,
)


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
        kinds: set[type] = set()
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
                new = [kind for kind in type(value).__mro__ if kind not in kinds]
                kinds.update(new)
                waiting.extend(((kind, name), each) for kind in new for name, each in of_class(kind))

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
    """Return a number that differs, as far as one can tell at little cost, if an object was changed."""
    if isinstance(value, _CONTAINERS):
        items = [*value, *value.values()] if isinstance(value, dict) else value
        return hash((len(value), *map(id, items))) if len(value) <= _MOST_COMPARED else len(value)
    if isinstance(value, numpy.ndarray):
        is_compared = value.flags.writeable and not value.dtype.hasobject and value.nbytes <= _MOST_BYTES
        return zlib.crc32(value.tobytes()) if is_compared else 0
    return value._version if isinstance(value, torch.Tensor) and not value.is_inference() else 0


def _is_open(value: Any) -> bool:
    """Return whether everything that an object holds can be found from Python."""
    kind = type(value)
    is_found = is_made_in_python(kind) and (_has_attributes(value) or is_of_slots_alone(kind))
    return isinstance(value, _OPEN) or is_found


def _has_attributes(value: Any) -> bool:
    return type(value).__dictoffset__ != 0  # does not ask the object, which may make attributes up


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the objects that an open object holds, each with a name."""
    if isinstance(value, _CONTAINERS):
        yield from _items(value)
    elif isinstance(value, types.FunctionType):
        yield "defaults", value.__defaults__
        yield from enumerate(value.__closure__ or ())
        yield from generators_of_module(value)
        return
    elif isinstance(value, types.MethodType | types.BuiltinFunctionType):
        yield "self", value.__self__
    elif isinstance(value, types.CellType):
        with suppress(ValueError):  # it is empty
            yield "contents", value.cell_contents
    elif isinstance(value, functools.partial):
        yield from enumerate((value.func, value.args, value.keywords))
    if _has_attributes(value):
        yield from list(vars(value).items())
    yield from of_slots(value)


def _items(container: Any) -> Iterator[tuple[Any, Any]]:
    items = list(container.items()) if isinstance(container, dict) else list(enumerate(list(container)))
    if len(items) <= _MOST_ITEMS:
        yield from items
    elif len(items) <= _MOST_COMPARED:
        yield from (item for item in items if is_generator(item[1]))
