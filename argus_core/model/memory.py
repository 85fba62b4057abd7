"""A limit on the memory of the tensors that are made while a part is built, checked before allocation.

Every operator of torch is intercepted. The size of its result is estimated from its arguments by a cheap
bound. Where the bound exceeds the limit, the operator runs on torch's meta device, where tensors have no
memory. Memory that torch does not allocate (numpy's, Python's) is not counted, and a result whose size
depends on values is counted after it is made.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from argus_core.tensors.listing import tensors_in

__all__ = ["Limit", "NoRoom", "Room"]

_SIZED = frozenset(("empty", "full", "ones", "rand", "randn", "zeros"))
# The result has as many rows, and as many columns, as the argument has entries.
_SQUARES = frozenset(("_linalg_svd", "_pdist_forward", "diag_embed", "eye"))
_GROWS = frozenset(("resize", "resize_", "resize_as_", "_resize_output_"))

# The bytes of complex128, and the most tensors of the size of its inputs that an operator may return.
_LARGEST_ITEM = 16
_RESULTS = 4


class NoRoom(BaseException):
    """An operator would exceed the limit; a BaseException, so that a constructor's handler cannot hide it."""


class Room:
    """The memory left for new tensors; freed memory is not added again.

    Args:
        most: bytes.
    """

    def __init__(self, most: float = math.inf) -> None:
        self.left = most

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Call an operator, and return its result.

        Raises:
            NoRoom: the result would exceed the memory left.
        """
        least = _estimate_of(func)
        if least is None:
            return func(*args, **kwargs)
        size = least(func, args, kwargs, self.left)
        if size > self.left:
            self.make_room(least, func, args, kwargs)
        result = func(*args, **kwargs)
        self.take(result, size if least is _size_of_new else None)
        return result

    def take(self, result: Any, size: float | None) -> None:
        """Subtract the memory of an operator's result, whose size may be known."""
        if size is None:
            size = sum(_size(tensor) for tensor in tensors_in(result) if not tensor.is_meta)
        self.left -= size

    def make_room(self, least: Estimate, func: Any, args: Any, kwargs: Any) -> None:
        """Raise `NoRoom` unless an operator's result fits into the memory left."""
        raise NoRoom


class _Live(Room):
    """A count of the memory in use."""

    def __init__(self, most: float) -> None:
        super().__init__(most)
        self._most = most
        self._in_use: dict[int, tuple[StorageWeakRef, int]] = {}

    def take(self, result: Any, size: float | None) -> None:
        for tensor in tensors_in(result):
            storage = None if tensor.is_meta else _storage_of(tensor)
            if storage is not None:
                reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                _, before = self._in_use.get(reference.cdata, (None, 0))
                self._in_use[reference.cdata] = (reference, storage.nbytes())
                self.left += before - storage.nbytes()

    def make_room(self, least: Estimate, func: Any, args: Any, kwargs: Any) -> None:
        gone = [key for key, (reference, _) in self._in_use.items() if reference.expired()]  # type: ignore[no-untyped-call]
        for key in gone:
            del self._in_use[key]
        self.left = self._most - sum(size for _, size in self._in_use.values())
        if least(func, args, kwargs, self.left) > self.left:
            raise NoRoom


class Limit(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A limit, in bytes, on the tensors that are made inside the context and still in use.

    Raises:
        NoRoom: an operator would exceed the limit.
    """

    def __init__(self, most: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._room = _Live(most)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would make torch import its compiler, which takes seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():
            return self._room.call(func, args, kwargs or {})


def _storage_of(tensor: Tensor) -> torch.UntypedStorage | None:
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):  # a sparse tensor, or one that wraps others, counted before
        return None


def _size(tensor: Tensor) -> int:
    """Return a tensor's bytes; the tensors that a sparse one consists of have been counted before."""
    return tensor.nbytes if tensor.layout is torch.strided else 0


Estimate = Callable[[Any, Any, Any, float], float]
"""A function that returns the bytes of an operator's result: a bound if within the limit, else exact."""


@functools.cache
def _estimate_of(func: Any) -> Estimate | None:
    """Return the function that estimates the memory of an operator's result; ``None`` if it takes none."""
    name, schema = func.overloadpacket.__name__, func._schema
    if name in _SIZED and schema.arguments[0].name == "size":
        return _size_of_new
    returned = [str(each.type) for each in schema.returns]
    if name in _GROWS:
        return _size_of_result
    if func.is_view or not any("Tensor" in each for each in returned):
        return None
    if all(each.alias_info is not None and each.alias_info.is_write for each in schema.returns):
        return _size_of_result if func._overloadname.endswith("out") else None  # in place
    return _size_of_result


def _size_of_new(func: Any, args: Any, kwargs: Any, room: float) -> float:
    """Return the bytes of a new tensor whose size is the first argument."""
    device = kwargs.get("device")
    if device is not None and device.type == "meta":
        return 0
    dtype = kwargs.get("dtype") or torch.get_default_dtype()
    size: int = math.prod(args[0]) * dtype.itemsize
    return size


def _size_of_result(func: Any, args: Any, kwargs: Any, room: float) -> float:
    entries = _bound([args, *kwargs.values()])
    if func.overloadpacket.__name__ in _SQUARES or "complete" in args:
        entries *= entries
    bound = entries * _LARGEST_ITEM * _RESULTS
    if bound <= room:
        return bound
    return 0 if _is_for_meta(args, kwargs) else _size_on_meta(func, args, kwargs, bound)


def _bound(values: Any) -> float:
    """Return an upper bound of the entries in an operator's result.

    The bound multiplies the sizes of tensors, as in an outer product, and numbers, as in a repetition.
    """
    if isinstance(values, Tensor):
        return max(1, values.numel())
    if type(values) in (int, float):
        size = abs(values)
        return max(size, 1 / size) if math.isfinite(size) and size else 1  # a small step makes a long range
    if isinstance(values, list | tuple):
        bound = 1.0
        for value in values:
            bound *= _bound(value)
        return bound
    return 1


def _is_for_meta(args: Any, kwargs: Any) -> bool:
    """Return whether an operator's result is on the meta device, without memory."""
    if kwargs.get("device") is not None:
        return bool(kwargs["device"].type == "meta")
    given = [tensor.is_meta for tensor in tensors_in((args, kwargs))]
    return given != [] and all(given)


def _size_on_meta(func: Any, args: Any, kwargs: Any, bound: float) -> float:
    """Return the exact bytes of an operator's result, from the meta device; the bound if that fails."""
    try:
        wanted = {name: _on_meta(value) for name, value in kwargs.items()}
        if any(argument.name == "device" for argument in func._schema.arguments):
            wanted["device"] = torch.device("meta")
        results = func(*_on_meta(args), **wanted)
    except (NotImplementedError, RuntimeError, TypeError):
        return bound
    return sum(map(_size, tensors_in(results)))


def _on_meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device="meta")
    if isinstance(value, list | tuple):
        return type(value)(map(_on_meta, value))
    return value
