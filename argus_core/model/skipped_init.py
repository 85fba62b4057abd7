"""Building a network without the random initial values that its saved state overwrites.

Everything in a constructor runs as ever, but for drawing random numbers into tensors. Tensors that lack
their values are known by the memory that they share. What is computed from one lacks its value, too, in
whatever tensor it ends; where a value would leave the tensors, for a condition, a number or a shape, or
where random numbers are needed that cannot be left out, building stops and starts again as usual. So what
is built equals what would have been built, except for the memory in `LeftOut`: whoever overwrites all
of it, and can tell from `LeftOut.lies_within` that it is all, has lost nothing.

This watches the thread that builds. Values that another thread, or code that goes around torch's
dispatcher by a pointer of its own, reads of a network that is being built are not seen.
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

from argus_core.model.memory import NoRoom, Room, tensors_in
from argus_core.tensors.rng import Generators

__all__ = ["LeftOut", "build_without"]

# Drawing into a tensor, and what else changes nothing but a tensor's values.
_DRAWS = frozenset(("uniform_", "normal_", "log_normal_", "exponential_", "cauchy_"))
_CHANGES = frozenset(
    "abs_ add_ clamp_ clamp_max_ clamp_min_ div_ erfinv_ exp_ fill_ mul_ neg_ pow_ sqrt_ sub_ zero_".split()
)
_NEW = frozenset(("rand", "randn"))
_NEW_LIKE = frozenset(("rand_like", "randn_like"))
_DUPLICATES = frozenset(("clone", "_to_copy"))

_IS_META = torch.Tensor.is_meta.__get__  # type: ignore[attr-defined]

# Tensors go out by these without the dispatcher: as numbers, as memory, as bytes, as text.
_GUARDED = frozenset(
    getattr(torch.Tensor, name)
    for name in (
        "__array__ __bool__ __complex__ __deepcopy__ __dlpack__ __float__ __format__ __index__ __int__ "
        "__reduce_ex__ __repr__ _typed_storage data_ptr item new new_tensor numpy share_memory_ storage "
        "tolist untyped_storage"
    ).split()
) | {torch.tensor, torch.as_tensor, torch.asarray, _IS_META}


class _ValuesNeeded(BaseException):
    """A constructor needs values that were left out; no handler of its own shall take this for a failure."""


class LeftOut:
    """The memory that still lacks its values: storages, without keeping them alive."""

    def __init__(self) -> None:
        self._storages: dict[int, StorageWeakRef] = {}
        self._zeroed: set[int] = set()

    def __contains__(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._storages

    def has_any(self, values: Iterable[Any]) -> bool:
        """Return whether a tensor among ``values``, however deep in lists, lacks its values."""
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
        """Note that a tensor lacks its values, and so does whatever shares its memory."""
        if tensor.numel():
            reference = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
            self._storages.setdefault(reference.cdata, reference)

    def zero(self, tensor: Tensor) -> None:
        """Let a tensor that is computed with be zero rather than what the memory last held."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._zeroed:
            self._zeroed.add(storage._cdata)
            storage.fill_(0)  # type: ignore[attr-defined]

    def lies_within(self, tensors: Iterable[Tensor]) -> bool:
        """Return whether who overwrites ``tensors`` overwrites all memory here that is still in use."""
        whole = {tensor.untyped_storage()._cdata for tensor in tensors if _fills_its_storage(tensor)}
        gone = StorageWeakRef.expired
        return all(key in whole or gone(reference) for key, reference in self._storages.items())  # type: ignore[no-untyped-call]


def build_without(build: Callable[[], Any], most: float = math.inf) -> tuple[Any, LeftOut] | None:
    """Return what ``build`` returns, built without random values, and which memory lacks them.

    Where ``build`` needs them, fails, or makes tensors of more than ``most`` bytes, the answer is ``None``
    and the random generators are where they were: call it again as usual.
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
    """Return what an operator means for values that were left out."""
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
    """Return whether an operator makes something other than values of its tensors' values."""
    revealing = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    kinds = {str(returned.type) for returned in func._schema.returns}
    return bool(revealing & {*func.tags}) or not kinds <= {"Tensor", "List[Tensor]"}


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Leaves random values out, and follows what lacks them through every operator."""

    def __init__(self, room: Room) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.room = room
        self.left_out = LeftOut()
        self.stopped = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # To be skipped by torch's compiler, it would import the compiler, which takes seconds.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunction():
            if types and any(kind.__torch_dispatch__ is not Tensor.__torch_dispatch__ for kind in types):
                self.stop()  # operators on what lies inside such a tensor are not seen here
            sort = _sort_of(func)
            if sort in (_Sort.DRAW, _Sort.NEW, _Sort.NEW_LIKE, _Sort.OTHER_RANDOM):
                return self._draw(sort, func, args, kwargs)
            if self.left_out.has_any(args) or (kwargs and self.left_out.has_any(kwargs.values())):
                return self._follow(sort, func, args, kwargs)
            return self.room.call(func, args, kwargs)

    def stop(self) -> None:
        """End building, even if the constructor should handle what it does not know."""
        self.stopped = True
        raise _ValuesNeeded

    def leave_out(self, tensor: Tensor) -> None:
        """Note that a tensor lacks its values, or end building if others may read them in its memory.

        Memory that torch has not allocated may outlive every tensor on it: that of an array, of a file.
        """
        if not tensor.untyped_storage().resizable():
            self.stop()
        self.left_out.add(tensor)

    def _draw(self, sort: _Sort, func: Any, args: Any, kwargs: Any) -> Any:
        if sort is _Sort.OTHER_RANDOM or kwargs.get("generator") is not None:  # which others may draw from
            self.stop()
        if sort is _Sort.DRAW:
            func(_empty(args[0].dtype, args[0].device), *args[1:], **kwargs)  # refuses what it would refuse
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
    """Guards the ways out of tensors that the dispatcher does not see."""

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
                # It draws until all values lie within bounds; of tensors without memory it leaves the values.
                if not func(*args):
                    self._watch.leave_out(args[0])
                return True
        return func(*args, **kwargs)


@functools.cache
def _empty(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a tensor without entries, which drawing into leaves as it is."""
    return torch.empty(0, dtype=dtype, device=device)


def _draws_from_truncated_normal(frame: Any) -> bool:
    where, name = frame.f_globals.get("__name__"), frame.f_code.co_name
    return bool(where == "torch.nn.init" and name.endswith("trunc_normal_"))


def _written(func: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    """Return the tensors among the arguments that the operator writes to."""
    everything = "batch_norm" in func.overloadpacket.__name__  # writes running statistics without saying so
    for index, argument in enumerate(func._schema.arguments):
        value = args[index] if index < len(args) else kwargs.get(argument.name)
        if everything or (argument.alias_info is not None and argument.alias_info.is_write):
            yield from tensors_in(value)


def _fills_its_storage(tensor: Tensor) -> bool:
    """Return whether a tensor's numbers lie side by side, in whatever order, and are all that is there."""
    expected = 1
    for stride, length in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if length != 1:
            if stride != expected:
                return False
            expected *= length
    return tensor.untyped_storage().nbytes() == tensor.nbytes
