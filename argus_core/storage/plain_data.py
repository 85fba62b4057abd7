"""Plain data: the types of values that parameters and checkpoints may hold.

Types are compared exactly and subclasses are rejected, so that a stored value is restored with its type.
torch and numpy are looked up among the imported modules; a value of theirs cannot exist otherwise.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator
from typing import Any

from argus_core.errors import ParamsError

__all__ = ["MAX_LEVELS", "NUMBERS", "check_plain", "is_object", "plain_type", "unstorable"]

# A manifest holds 64 levels (see manifest.py); the others are those around the value.
MAX_LEVELS = 56

_PLAIN_TYPES: dict[type, str] = {
    type(None): "none",
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    bytes: "bytes",
    list: "list",
    tuple: "tuple",
    dict: "dict",
    pathlib.PurePosixPath: "path",
    pathlib.PureWindowsPath: "path",
    pathlib.PosixPath: "path",
    pathlib.WindowsPath: "path",
}

# Characters. The path of each value in a dict, and the name of each tensor, contains the key.
_LONGEST_KEY = 1000

# Python does not print longer integers, and messages contain the value.
_MOST_BITS = 14_000

_KEYS = frozenset({"none", "bool", "int", "float", "str"})

# The numpy types of which scalars are plain data.
NUMBERS = frozenset("bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split())
_ARRAY_NUMBERS = NUMBERS | {"complex64", "complex128"}

_PLAIN = (
    "plain data are numbers, strings, booleans, None, lists, tuples, dicts, paths, tensors, "
    "numpy arrays and scalars of numbers, torch dtypes and devices"
)


def check_plain(value: object, where: str = "params") -> None:
    """Check that a value and all of its contents are plain data.

    Args:
        value: to check.
        where: the value's name in messages.

    Raises:
        ParamsError: the value contains other than plain data; the message holds the path to it.
    """
    _check(value, where, MAX_LEVELS)


def plain_type(value: object) -> str | None:
    """Return the kind of plain data that a value is, without a check of its contents, or None."""
    if type(value) is int and value.bit_length() > _MOST_BITS:
        return None
    return _PLAIN_TYPES.get(type(value)) or _torch_type(value) or _numpy_type(value)


def is_object(value: dict[Any, Any]) -> bool:
    """Return whether a dict can be a JSON object: all keys are strings, and none is a tag."""
    return all(type(key) is str and not key.startswith("$") for key in value)


def unstorable(tensor: Any) -> str | None:
    """Return the reason why a tensor cannot be stored, as the end of a sentence, or None."""
    if hasattr(tensor, "materialize"):
        return "is not initialised yet; run a batch through the model first"
    if tensor.is_nested or str(tensor.layout) != "torch.strided":
        return f"is not a dense tensor but {'nested' if tensor.is_nested else tensor.layout}; store its parts"
    if tensor.is_quantized:
        return f"is quantized ({tensor.dtype}); store tensor.int_repr(), its scale and zero point"
    if tensor.is_meta:
        return "is on the meta device and has no values; move the model to a real device with to_empty()"
    return None


def _torch_type(value: object) -> str | None:
    torch = sys.modules.get("torch")
    for name, attribute in (("tensor", "Tensor"), ("dtype", "dtype"), ("device", "device")):
        if type(value) is getattr(torch, attribute, None):
            return name
    return None


def _numpy_type(value: object) -> str | None:
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return None
    if type(value) is numpy.ndarray:
        dtype = value.dtype  # type: ignore[attr-defined]
        return "ndarray" if dtype.name in _ARRAY_NUMBERS and dtype.isnative else None
    return "scalar" if isinstance(value, numpy.generic) and value.dtype.name in NUMBERS else None


def _check(value: object, where: str, levels: int) -> None:
    sort = plain_type(value)
    if sort is None:
        raise ParamsError(f"{where} is {_description(value, where)}")
    if sort == "tensor" and (why := unstorable(value)):
        raise ParamsError(f"{where} {why}")
    if sort == "tensor" and value.requires_grad:  # type: ignore[attr-defined]
        raise ParamsError(f"{where} requires grad, and would come back without; give its detach()")
    left = levels - _levels(value)
    if left < 0:
        raise ParamsError(
            f"{where[:80]} is nested deeper than {MAX_LEVELS} levels, or holds itself (a tuple counts as 2, "
            "a dict with keys other than strings as 3); make it flatter"
        )
    for item, item_where in _items(value, where, left):
        _check(item, item_where, left)


def _levels(value: object) -> int:
    """Return the number of JSON levels that a value itself takes once it is encoded."""
    if type(value) is dict:
        return 1 if is_object(value) else 3
    return 2 if type(value) is tuple else int(type(value) is list)


def _items(value: Any, where: str, levels: int) -> Iterator[tuple[object, str]]:
    if type(value) is dict:
        for key, item in value.items():
            _check_key(key, where, levels)
            yield item, f"{where}[{key!r}]"
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            yield item, f"{where}[{index}]"


def _check_key(key: object, where: str, levels: int) -> None:
    if type(key) is str and len(key) > _LONGEST_KEY:
        raise ParamsError(f"{where} has a key of {len(key):,} characters; give it at most {_LONGEST_KEY:,}")
    if type(key) is tuple and levels >= _levels(key):
        for item in key:
            _check_key(item, where, levels - _levels(key))
    elif plain_type(key) not in _KEYS:
        shown = "of too many bits" if type(key) is int else repr(key)
        raise ParamsError(
            f"{where} has the key {shown} of type {type(key).__name__}; "
            "keys are strings, numbers, booleans, None or tuples of these"
        )


def _registration(factory: Any, where: str, what: str = "it") -> str:
    """Return advice on registering a class or function so that it can be chosen by name at ``where``."""
    from argus_core.registry.part import KIND_OF_PART  # lazy: reading a file's header needs no registry
    from argus_core.registry.registry import is_factory_of

    part = next(
        (part for part in KIND_OF_PART if where in (f"params[{part!r}]", f"params[{part!r}][0]")), None
    )
    if part is None and where.startswith("params["):
        return (
            f"register {what} and choose it by name: a checkpoint keeps no code, so give the name, and let "
            "the constructor choose by it"
        )
    name = getattr(factory, "__name__", "")
    if part is None or not name.isidentifier():
        return f"register {what} and choose it by name"
    kind = KIND_OF_PART[part]
    chosen = f"({name!r}, {{...}})" if where.endswith("[0]") else repr(name)
    advice = f"choose it by name: {{{part!r}: {chosen}}}"
    if is_factory_of(kind, name, factory):
        return advice
    return f"register {what} by argus_core.register({kind!r}, {name!r}, {factory.__qualname__}) and {advice}"


def _description(value: object, where: str) -> str:
    """Return a description of the value at ``where``, and the next action."""
    if isinstance(value, type):
        return f"the class {value.__qualname__}; {_registration(value, where)}"
    name = type(value).__name__
    if type(value) is int:
        return f"an integer of {value.bit_length():,} bits, and {_MOST_BITS:,} is the most; give it as bytes"
    if name in {"function", "builtin_function_or_method", "method", "partial"}:
        return f"a function; {_registration(value, where)}"
    if callable(value) or hasattr(value, "state_dict"):
        cls = type(value)
        return f"an object of the class {cls.__qualname__}; {_registration(cls, where, 'the class')}"
    near_type = next((plain.__name__ for plain in _PLAIN_TYPES if isinstance(value, plain)), None)
    if near_type is not None:
        return f"of type {name}, which would come back as {near_type}; convert it to {near_type}"
    if hasattr(value, "detach"):
        return f"of type {name}, which would come back as Tensor; give its detach()"
    if hasattr(value, "dtype"):
        return f"of type {name} and dtype {value.dtype}; {_PLAIN}"
    return f"of type {name}; {_PLAIN}"
