"""The objects that an instance holds outside its ``__dict__``: in slots, in its class, and in its module.

Of a module only the generators that functions name are found: it may hold anything else.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

from argus_core.tensors.generators import is_generator

__all__ = ["generators_of_module", "is_made_in_python", "is_of_slots_alone", "of_class", "of_slots"]

_CLASS_STATEMENT = 1 << 9  # Py_TPFLAGS_HEAPTYPE, which the types of most extensions lack


def is_made_in_python(kind: type) -> bool:
    """Return whether a class seems to come from a class statement."""
    return bool(kind.__flags__ & _CLASS_STATEMENT)


def is_of_slots_alone(kind: type) -> bool:
    """Return whether the instances of a class hold what its ``__slots__`` name, and nothing else."""
    return kind is not object and all("__slots__" in vars(each) for each in kind.__mro__[:-1])


def of_slots(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what an object holds in ``__slots__``, by name."""
    for kind in filter(is_made_in_python, type(value).__mro__):
        if "__slots__" not in vars(kind):
            continue
        for name, member in vars(kind).items():
            if isinstance(member, types.MemberDescriptorType):
                try:
                    yield f"{kind.__name__}.{name}", member.__get__(value)
                except AttributeError:  # it is empty
                    continue


def of_class(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of a class, and the generators that its functions find in their modules."""
    if not is_made_in_python(kind) or kind.__module__.partition(".")[0] == "torch":
        return
    for name, value in list(vars(kind).items()):
        function = (
            getattr(value, "__func__", value) if isinstance(value, staticmethod | classmethod) else value
        )
        if isinstance(function, types.FunctionType):
            yield from generators_of_module(function)
        elif not (name.startswith(("_abc_", "__")) or hasattr(type(value), "__get__")):
            yield name, value


def generators_of_module(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the generators among the global variables that a function names, and functions of its module."""
    codes, seen = [function.__code__], {function.__code__}
    for code in codes:
        inner = [each for each in code.co_consts if isinstance(each, types.CodeType)]
        for name in code.co_names:
            value = function.__globals__.get(name)
            if is_generator(value):
                yield f"{function.__module__}.{name}", value
            elif isinstance(value, types.FunctionType) and value.__module__ == function.__module__:
                inner.append(value.__code__)
        codes.extend(each for each in inner if each not in seen)
        seen.update(inner)
