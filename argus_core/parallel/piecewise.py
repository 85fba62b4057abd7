"""Building a network of which each process keeps rows only, with the initial values of one process.

The network itself is built on torch's meta device, where tensors have no memory. Every operator on one of its
tensors runs on a real counterpart too, so that values and random numbers are those of an ordinary build. Once
the counterparts take too much memory, the oldest are cut: each process keeps its rows. An operator that reads
a counterpart after that gets it whole again from the rows of all processes, which run the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from argus_core.parallel.shards import joined_rows, own_rows
from argus_core.tensors.listing import tensors_in

__all__ = ["BuiltInPieces", "build_in_pieces"]

_MOST = 64 * 2**20  # bytes of whole counterparts, beside the newest
_OVERWRITING = frozenset(("fill_", "normal_", "uniform_", "zero_"))
_IS_META = torch.Tensor.is_meta.__get__  # type: ignore[attr-defined]
_OF_VALUES = frozenset((torch.tensor, torch.as_tensor, torch.asarray))


@dataclass(frozen=True)
class BuiltInPieces:
    """A network on the meta device, and the values that belong into it.

    Attributes:
        network: without values.
        rows: of this process, of each parameter by its first name.
        buffers: whole, by name.
        attributes: tensors that are plain attributes, by module and name.
    """

    network: nn.Module
    rows: dict[str, Tensor]
    buffers: dict[str, Tensor]
    attributes: list[tuple[nn.Module, str, Tensor]]

    def put_attributes(self) -> None:
        """Give the network the plain tensors among its attributes."""
        for module, name, value in self.attributes:
            vars(module)[name] = value


def build_in_pieces(build: Callable[[], Any], group: Any, most: int = _MOST) -> BuiltInPieces:
    """Build a network in pieces; every process calls it, with generators in the same state.

    Args:
        build: returns the network.
        group: of the processes, on the CPU.
        most: bytes of counterparts that may be whole.

    Raises:
        Exception: of any type, where it cannot be built on the meta device.
    """
    values = _Counterparts(group, most)
    with torch.device("meta"), _Shortcuts(), values:
        network = build()
    if not isinstance(network, nn.Module):
        raise TypeError(f"the network is of type {type(network).__name__}")
    real = next((name for name, each in network.named_parameters() if not each.is_meta), None)
    if real is not None:
        raise ValueError(f"the parameter {real!r} is not made on torch's default device")
    known = {id(each) for each in (*network.parameters(), *network.buffers())}
    rows = {name: values.rows_of(each.detach()) for name, each in network.named_parameters()}
    buffers = {name: values.whole(each.detach()) for name, each in network.named_buffers()}
    attributes = [
        (module, name, values.whole(value))
        for module in network.modules()
        for name, value in _plain_tensors(module, known)
    ]
    return BuiltInPieces(network.to("meta"), rows, buffers, attributes)


def _plain_tensors(module: nn.Module, known: set[int]) -> Iterator[tuple[str, Tensor]]:
    """Yield tensors on the meta device that are plain attributes of a module.

    Raises:
        ValueError: one lies in a list or dict.
    """
    for name, value in vars(module).items():
        if name in ("_parameters", "_buffers", "_modules"):
            continue
        for tensor in tensors_in(value):
            if not tensor.is_meta or id(tensor) in known:
                continue
            if tensor is not value:
                raise ValueError(f"the attribute {name!r} of {type(module).__name__} holds tensors")
            yield name, tensor


@dataclass
class _Counterpart:
    """The real memory of a tensor on the meta device: whole, or the rows of this process.

    Attributes:
        meta: the other memory, which may be gone.
        shape: in which its rows are cut.
    """

    meta: StorageWeakRef
    dtype: torch.dtype
    shape: tuple[int, ...]
    whole: torch.UntypedStorage | None
    rows: Tensor | None = None


class _Counterparts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The interception of operators on tensors of the meta device, which run on real memory."""

    def __init__(self, group: Any, most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._group = group
        self._most = most
        self._of_meta: dict[int, _Counterpart] = {}  # the last used last
        self._metas: dict[int, torch.UntypedStorage] = {}  # while an operator runs, by the real memory

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        on_meta = any(each.is_meta for each in tensors_in([*args, *kwargs.values()]))
        if not on_meta and torch.device(kwargs.get("device") or "cpu").type != "meta":
            return func(*args, **kwargs)
        if "device" in kwargs and torch.device(kwargs["device"] or "cpu").type == "meta":
            kwargs["device"] = torch.device("cpu")
        overwrites = func.overloadpacket.__name__ in _OVERWRITING
        pairs: list[tuple[Tensor, Any]] = []

        def real(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            counterpart = self._real(value, overwrites and value is args[0]) if value.is_meta else value
            pairs.append((counterpart, value))
            return counterpart

        self._metas = {}
        results = func(*tree_map(real, args), **tree_map(real, kwargs))
        given = {each.untyped_storage()._cdata for each, value in pairs if not value.is_meta}

        def back(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            for counterpart, original in pairs:
                if value is counterpart:
                    return original
            return value if value.untyped_storage()._cdata in given else self._meta_of(value)

        answer = tree_map(back, results)
        self._metas = {}
        self._cut_oldest()
        return answer

    def whole(self, tensor: Tensor) -> Tensor:
        """Return the values of a tensor of the network."""
        return self._real(tensor, False).clone() if tensor.is_meta else tensor

    def rows_of(self, tensor: Tensor) -> Tensor:
        """Return the rows of this process of a tensor of the network."""
        known = self._of_meta.get(tensor.untyped_storage()._cdata) if tensor.is_meta else None
        if known is not None and known.rows is not None and _lies_as(tensor, known):
            return known.rows
        return own_rows(self._real(tensor, False) if tensor.is_meta else tensor, self._group)

    def _real(self, tensor: Tensor, is_overwritten: bool) -> Tensor:
        """Return the counterpart of a tensor on the meta device.

        Raises:
            KeyError: it has none, since an operator that made it was not seen.
        """
        storage = tensor.untyped_storage()
        known = self._of_meta.pop(storage._cdata)
        self._of_meta[storage._cdata] = known
        if known.whole is None:
            if is_overwritten and _lies_as(tensor, known):
                whole = torch.empty(known.shape, dtype=known.dtype)
            else:
                assert known.rows is not None
                whole = joined_rows(known.rows, known.shape, self._group)
            known.whole, known.rows = whole.untyped_storage(), None
        self._metas[known.whole._cdata] = storage
        return _view(known.whole, tensor, torch.device("cpu"))

    def _meta_of(self, real: Tensor) -> Tensor:
        """Return the tensor on the meta device that has this counterpart."""
        storage = self._metas.get(real.untyped_storage()._cdata)
        if storage is not None:
            return _view(storage, real, torch.device("meta"))
        meta = torch.empty_strided(real.shape, real.stride(), dtype=real.dtype, device="meta")
        key = meta.untyped_storage()
        self._metas[real.untyped_storage()._cdata] = key
        self._of_meta[key._cdata] = _Counterpart(
            StorageWeakRef(key),  # type: ignore[no-untyped-call]
            real.dtype,
            tuple(real.shape) if real.is_contiguous() else (),
            real.untyped_storage(),
        )
        return meta

    def _cut_oldest(self) -> None:
        """Keep only rows of the counterparts that were used long ago; drop those no longer in use."""
        for key in [key for key, each in self._of_meta.items() if each.meta.expired()]:  # type: ignore[no-untyped-call]
            del self._of_meta[key]
        whole = [each for each in self._of_meta.values() if each.whole is not None and each.shape]
        size = sum(each.whole.nbytes() for each in whole[:-1] if each.whole is not None)
        for each in whole[:-1]:
            if size <= self._most:
                return
            assert each.whole is not None
            size -= each.whole.nbytes()
            values = torch.empty(0, dtype=each.dtype).set_(each.whole).view(each.shape)
            each.rows, each.whole = own_rows(values, self._group), None


class _Shortcuts(TorchFunctionMode):
    """The interception of functions that would not reach an operator."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func == _IS_META:  # initialisers skip such tensors
            return False
        if func in _OF_VALUES and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "cpu"}  # else torch drops the values
        return func(*args, **kwargs)


def _view(storage: torch.UntypedStorage, like: Tensor, device: torch.device) -> Tensor:
    empty = torch.empty(0, dtype=like.dtype, device=device)
    return empty.set_(storage, like.storage_offset(), like.shape, like.stride())


def _lies_as(tensor: Tensor, known: _Counterpart) -> bool:
    """Return whether a tensor is all of its counterpart, in the shape in which rows are cut."""
    return tuple(tensor.shape) == known.shape and tensor.is_contiguous() and tensor.dtype == known.dtype
