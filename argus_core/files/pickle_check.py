"""Checks of a pickle in the format of `torch.save`, before torch reads it; torch is not imported.

torch's restricted unpickler runs no code, but it does not limit memory or time: a pickle of a few bytes may
call ``bytearray(2**40)``, copy one long list for each of its calls, or fill a dict with keys of one hash.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Iterable
from typing import Any

from argus_core.errors import UnsafeCheckpointError

__all__ = ["check_pickle"]

_BUILDING = frozenset(
    "REDUCE BUILD NEWOBJ EMPTY_DICT EMPTY_LIST EMPTY_SET DICT LIST TUPLE TUPLE1 TUPLE2 TUPLE3".split()
)
# The globals in the state of a model. torch's own list has more: some take any amount of memory or time
# (_codecs.encode, nested codecs), some replace a tensor's methods by attributes.
_GLOBALS = re.compile(
    r"collections\.OrderedDict|(builtins|__builtin__)\.set"
    r"|torch\._utils\._rebuild_(tensor(_v[23])?|parameter)"
    r"|torch\.nn\.parameter\.Parameter|torch\.(Size|device|bool)|torch\.serialization\._get_layout"
    r"|torch\.(storage\.Untyped|(cuda\.)?(Double|Float|Half|BFloat16|Complex(Float|Double))"
    r"|(cuda\.)?(Long|Int|Short|Char|Byte|Bool))Storage"
    r"|torch\.(b?float|u?int|complex)[0-9]\w*"
)

# The globals that a pickle calls to build bytes. Arguments are not checked, so the calls are not allowed.
_BYTES = ("_codecs.encode", "__builtin__.bytes", "builtins.bytes")

# Items that calls may copy, in addition to two for each byte of the pickle.
_FREE_COPIES = 2**16
# Keys whose hashes the pickle can choose; keys of one hash take time by the square of their number.
_MOST_ODD_KEYS = 1024
_HASHED_TO_ITSELF = 2**61 - 1  # a smaller integer is its own hash


def check_pickle(data: bytes, most: int, what: str) -> None:
    """Check that a pickle asks for tensors and plain data alone, and for no more of them than it has.

    Args:
        data: the pickle.
        most: the number of objects that it may build.
        what: the beginning of messages.

    Raises:
        UnsafeCheckpointError: it asks for other objects, or for more.
        ValueError: it is damaged.
    """
    count, outline = 0, _Outline()
    for opcode, argument, _ in pickletools.genops(data):
        count += opcode.name in _BUILDING
        outline.follow(opcode.name, argument)
        if count > most or outline.copied > 2 * len(data) + _FREE_COPIES:
            raise UnsafeCheckpointError(f"{what} asks for more objects than it has data; do not load it")
        if outline.odd_keys > _MOST_ODD_KEYS:
            raise UnsafeCheckpointError(
                f"{what} has more than {_MOST_ODD_KEYS:,} keys that are tuples or integers beyond 61 bits; "
                "do not load it"
            )
        if opcode.name == "GLOBAL":
            _check_global(str(argument).replace(" ", "."), what)


def _check_global(name: str, what: str) -> None:
    if _GLOBALS.fullmatch(name):
        return
    found, advice = repr(name[:80]), "save it again from code that you trust"
    if name in _BYTES:
        found, advice = "bytes, which a codec makes", "save it again with lists of numbers in their place"
    raise UnsafeCheckpointError(
        f"{what} asks for objects that are not tensors or plain data ({found}); {advice}"
    )


class _Outline:
    """The objects that a pickle builds, without their values: a list for a container, a length for a string.

    It ends at the first opcode that torch's unpickler does not accept, as that does.

    Attributes:
        copied: the items that calls have copied. An argument made for its call has a byte of the pickle for
            each item; one that the pickle has stored can be given to any number of calls.
        odd_keys: the keys of dicts and sets that are containers or large integers.
    """

    def __init__(self) -> None:
        self.copied = self.odd_keys = 0
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []
        self._stored: dict[int, Any] = {}
        self._is_over = False

    def follow(self, opcode: str, argument: Any) -> None:
        """Take the next opcode."""
        if self._is_over:
            return
        try:
            self._follow(opcode, argument)
        except (AttributeError, LookupError, TypeError):  # on which torch's unpickler fails, too
            self._is_over = True

    def _follow(self, opcode: str, argument: Any) -> None:
        stack = self._stack
        match opcode:
            case "PROTO" | "STOP":
                pass
            case "NONE" | "NEWFALSE" | "NEWTRUE" | "BININT" | "BININT1" | "BININT2" | "BINFLOAT" | "GLOBAL":
                stack.append(1)
            case "LONG1":
                stack.append(1 if abs(argument) < _HASHED_TO_ITSELF else [])
            case "BINUNICODE" | "SHORT_BINSTRING":
                stack.append(len(argument))
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_SET":
                stack.append([])
            case "BINPUT" | "LONG_BINPUT":
                self._stored[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self._stored[argument])
            case "MARK":
                self._outer.append(stack)
                self._stack = []
            case "TUPLE" | "APPENDS" | "SETITEMS":
                self._stack = self._outer.pop()
                self._gather(opcode, stack)
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(opcode[-1])
                stack[-count:] = [stack[-count:]]
            case "APPEND":
                self._gather(opcode, [stack.pop()])
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._gather(opcode, [key, value])
            case "BINPERSID":
                stack[-1] = 1
            case "REDUCE" | "NEWOBJ":
                arguments = stack.pop()
                stack[-1] = self._copies(arguments)
            case "BUILD":
                self._copies(stack.pop())
            case _:
                self._is_over = True

    def _gather(self, opcode: str, items: list[Any]) -> None:
        if opcode == "TUPLE":
            self._stack.append(items)
            return
        if opcode.startswith("SETITEM"):
            self.odd_keys += _containers(items[::2])
        self._stack[-1].extend(items)

    def _copies(self, arguments: Any) -> list[Any]:
        """Count what a call copies of its arguments, and return the items of its result."""
        items = []
        for value in arguments if isinstance(arguments, list) else [arguments]:  # a string is one of letters
            held = value if isinstance(value, list) else []
            self.copied += 1 + (value if isinstance(value, int) else len(held))
            self.odd_keys += _containers(held)
            items.extend(held)
        return items


def _containers(values: Iterable[Any]) -> int:
    return sum(isinstance(value, list) for value in values)
