"""Building a network without the random initial values that its saved state overwrites.

A constructor runs normally, except that no random numbers are drawn into tensors. Tensors without values are
tracked by their storage, and so are all results computed from them. Building stops, and starts over normally,
where Python code would read such a value (for a condition, a number or a shape), or where random numbers
cannot be skipped. So the result equals the normal one, except for the memory in `LeftOut`. A caller that
overwrites all of that memory, which `LeftOut.lies_within` checks, gets an equal network.

Only the building thread is tracked. Reads by another thread, or through a pointer that bypasses torch's
dispatcher, are not detected.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from enum import Enum, auto
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from argus_core.model.memory import NoRoom, Room
from argus_core.tensors.listing import tensors_in
from argus_core.tensors.rng import Generators

__all__ = ["LeftOut", "build_without"]

# Operators that draw into a tensor, and others that change only a tensor's values.
_DRAWS = frozenset(("uniform_", "normal_", "log_normal_", "exponential_", "cauchy_"))
_CHANGES = frozenset(
    "abs_ add_ clamp_ clamp_max_ clamp_min_ div_ erfinv_ exp_ fill_ mul_ neg_ pow_ sqrt_ sub_ zero_".split()
)
_NEW = frozenset(("rand", "randn"))
_NEW_LIKE = frozenset(("rand_like", "randn_like"))
_DUPLICATES = frozenset(("clone", "_to_copy"))

_IS_META = torch.Tensor.is_meta.__get__  # type: ignore[attr-defined]

# Functions that read tensors without the dispatcher: as numbers, memory, bytes or text.
_GUARDED = frozenset(
    getattr(torch.Tensor, name)
    for name in (
        "__array__ __bool__ __complex__ __deepcopy__ __dlpack__ __float__ __format__ __index__ __int__ "
        "__reduce_ex__ __repr__ _typed_storage data_ptr item new new_tensor numpy share_memory_ storage "
        "tolist untyped_storage"
    ).split()
) | {torch.tensor, torch.as_tensor, torch.asarray, _IS_META}


class _ValuesNeeded(BaseException):
    """A constructor needs skipped values; a BaseException, so that its own handlers do not catch it."""


class LeftOut:
    """The storages that lack values, held by weak references."""

    def __init__(self) -> None:
        self._storages: dict[int, StorageWeakRef] = {}
        self._zeroed: set[int] = set()

    def __contains__(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._storages

    def has_any(self, values: Iterable[Any]) -> bool:
        """Return whether a tensor among ``values``, nested at any depth in lists, lacks values."""
        if not self._storages:
            return False
        for value in values:
            if isinstance(value, Tensor):
                if value in self:
                    return True
            elif isinstance(value, (list, tuple)) and self.has_any(value):
                return True
        return False

    def add(self, tensor: Tensor) -> None:
        """Record that a tensor, and all that share its memory, lack values."""
        if tensor.numel():
            reference = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
            self._storages.setdefault(reference.cdata, reference)

    def zero(self, tensor: Tensor) -> None:
        """Fill a tensor that is an argument of a computation with zeros in place of old memory contents."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._zeroed:
            self._zeroed.add(storage._cdata)
            storage.fill_(0)  # type: ignore[attr-defined]

    def lies_within(self, tensors: Iterable[Tensor]) -> bool:
        """Return whether ``tensors`` cover all memory without values that is still in use."""
        whole = {tensor.untyped_storage()._cdata for tensor in tensors if _fills_its_storage(tensor)}
        gone = StorageWeakRef.expired
        return all(key in whole or gone(reference) for key, reference in self._storages.items())  # type: ignore[no-untyped-call]


def build_without(build: Callable[[], Any], most: float = math.inf) -> tuple[Any, LeftOut] | None:
    """Call ``build`` without drawing random values; return its result and the memory without values.

    Where ``build`` needs them, fails, or makes tensors of more than ``most`` bytes, ``None`` is returned and
    the state of the random generators is restored: call ``build`` again normally.
    """
    before = Generators()
    watch = _Watch(Room(most))
    try:
        with _Exits(watch), watch:
            built = build()
    except (Exception, _ValuesNeeded, NoRoom):
        built, watch.stopped = None, True
    if watch.stopped or before.torch_was_used():
        before.restore()
        return None
    return built, watch.left_out


class _Sort(Enum):
    DRAW = auto()
    NEW = auto()
    NEW_LIKE = auto()
    OTHER_RANDOM = auto()
    CHANGE = auto()
    COPY = auto()
    DUPLICATE = auto()
    VIEW = auto()
    REVEAL = auto()
    COMPUTE = auto()


@functools.cache
def _sort_of(func: Any) -> _Sort:
    """Return the category of an operator with regard to missing values."""
    name, tags = func.overloadpacket.__name__, func.tags
    if torch.Tag.nondeterministic_seeded in tags:
        if func._overloadname != "default":
            return _Sort.OTHER_RANDOM
        sorts = ((_DRAWS, _Sort.DRAW), (_NEW, _Sort.NEW), (_NEW_LIKE, _Sort.NEW_LIKE))
        return next((sort for names, sort in sorts if name in names), _Sort.OTHER_RANDOM)
    if func.namespace != "aten" or _tells_values(func):
        return _Sort.REVEAL
    if func._overloadname.endswith("out"):
        return _Sort.COMPUTE
    if name in _CHANGES:
        return _Sort.CHANGE
    if name == "copy_":
        return _Sort.COPY
    if name in _DUPLICATES:
        return _Sort.DUPLICATE
    return _Sort.VIEW if func.is_view else _Sort.COMPUTE


def _tells_values(func: Any) -> bool:
    """Return whether an operator's result other than tensors' values depends on values, such as a shape."""
    revealing = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    kinds = {str(returned.type) for returned in func._schema.returns}
    return bool(revealing & {*func.tags}) or not kinds <= {"Tensor", "List[Tensor]"}


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The interception of operators: it skips random draws and tracks tensors without values."""

    def __init__(self, room: Room) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.room = room
        self.left_out = LeftOut()
        self.stopped = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # True would make torch import its compiler, which takes seconds.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunction():
            if types and any(kind.__torch_dispatch__ is not Tensor.__torch_dispatch__ for kind in types):
                self.stop()  # operators on tensors inside such a tensor are not intercepted
            sort = _sort_of(func)
            if sort in (_Sort.DRAW, _Sort.NEW, _Sort.NEW_LIKE, _Sort.OTHER_RANDOM):
                return self._draw(sort, func, args, kwargs)
            if self.left_out.has_any(args) or (kwargs and self.left_out.has_any(kwargs.values())):
                return self._follow(sort, func, args, kwargs)
            return self.room.call(func, args, kwargs)

    def stop(self) -> None:
        """Stop building, even if the constructor catches the exception."""
        self.stopped = True
        raise _ValuesNeeded

    def leave_out(self, tensor: Tensor) -> None:
        """Record that a tensor lacks values, or stop building if other code may read its memory.

        Memory that torch has not allocated, as of an array or a file, may outlive every tensor on it.
        """
        if not tensor.untyped_storage().resizable():
            self.stop()
        self.left_out.add(tensor)

    def _draw(self, sort: _Sort, func: Any, args: Any, kwargs: Any) -> Any:
        if sort is _Sort.OTHER_RANDOM or kwargs.get("generator") is not None:  # used elsewhere, too
            self.stop()
        if sort is _Sort.DRAW:
            func(_empty(args[0].dtype, args[0].device), *args[1:], **kwargs)  # raises as the real call would
            result = args[0]
        elif sort is _Sort.NEW:
            result = self.room.call(torch.ops.aten.empty.memory_format, args[:1], kwargs)
        else:
            result = self.room.call(torch.ops.aten.empty_like.default, args[:1], kwargs)
        self.leave_out(result)
        return result

    def _follow(self, sort: _Sort, func: Any, args: Any, kwargs: Any) -> Any:
        if sort is _Sort.REVEAL:
            self.stop()
        if sort is _Sort.VIEW:
            return func(*args, **kwargs)
        if sort is _Sort.COPY or (sort is _Sort.CHANGE and args[0] in self.left_out):
            self.leave_out(args[0])
            return args[0]
        if sort is _Sort.DUPLICATE:
            options = {key: value for key, value in kwargs.items() if key != "non_blocking"}
            result = self.room.call(torch.ops.aten.empty_like.default, args[:1], options)
            self.leave_out(result)
            return result
        for tensor in tensors_in((args, kwargs)):
            if tensor in self.left_out:
                self.left_out.zero(tensor)
        result = self.room.call(func, args, kwargs)
        for tensor in (*tensors_in(result), *_written(func, args, kwargs)):
            self.leave_out(tensor)
        return result


class _Exits(TorchFunctionMode):
    """The interception of functions that read tensors without the dispatcher."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _GUARDED:
            left_out = self._watch.left_out
            if func != _IS_META:
                if left_out.has_any((*args, *kwargs.values())):
                    self._watch.stop()
            elif _draws_from_truncated_normal(sys._getframe(1)):
                # It draws until all values lie within bounds, but skips the values of meta tensors.
                if not func(*args):
                    self._watch.leave_out(args[0])
                return True
        return func(*args, **kwargs)


@functools.cache
def _empty(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return an empty tensor, into which no random numbers are drawn."""
    return torch.empty(0, dtype=dtype, device=device)


def _draws_from_truncated_normal(frame: Any) -> bool:
    where, name = frame.f_globals.get("__name__"), frame.f_code.co_name
    return bool(where == "torch.nn.init" and name.endswith("trunc_normal_"))


def _written(func: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    """Yield the tensors among the arguments that the operator writes to."""
    everything = "batch_norm" in func.overloadpacket.__name__  # writes undeclared running statistics
    for index, argument in enumerate(func._schema.arguments):
        value = args[index] if index < len(args) else kwargs.get(argument.name)
        if everything or (argument.alias_info is not None and argument.alias_info.is_write):
            yield from tensors_in(value)


def _fills_its_storage(tensor: Tensor) -> bool:
    """Return whether a tensor's numbers, in any order of dimensions, fill its storage without gaps."""
    expected = 1
    for stride, length in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if length != 1:
            if stride != expected:
                return False
            expected *= length
    return tensor.untyped_storage().nbytes() == tensor.nbytes
