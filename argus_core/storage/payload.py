"""Conversion of tensors to stored bytes and back."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from argus_core.errors import CheckpointError, ParamsError
from argus_core.storage import linux
from argus_core.storage.crc import CHUNK
from argus_core.storage.encoding import torch_dtype
from argus_core.storage.entry import MEMORY_FORMATS, STORED_AS, Entry, is_shape, name_problem
from argus_core.storage.plain_data import unstorable

__all__ = ["as_integers", "entry_of", "outline", "pieces", "restore", "room", "stored_once", "view"]

# Integer dtypes by width: a tensor of any dtype can be viewed as one, and all devices can copy them.
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def stored_once(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors to store by name, wide dtypes first, and the aliases of tensors with several names.

    Raises:
        ParamsError: a tensor or its name cannot be stored.
    """
    _check_byte_order()
    first: dict[tuple[object, ...], str] = {}
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    for name, tensor in tensors.items():
        plain = _plain(name, tensor)
        owner = first.setdefault(_identity(name, plain), name)
        if owner == name:
            kept[name] = plain
        else:
            aliases[name] = owner
    # So each offset is a multiple of the dtype's width, and a program can map the file and use it in place.
    in_order = sorted(kept, key=lambda name: (-entry_of(kept[name]).alignment, name))
    return {name: kept[name] for name in in_order}, aliases


def entry_of(tensor: Tensor) -> Entry:
    """Return a tensor's entry, without offset and checksums."""
    return Entry(_dtype_name(tensor), tuple(tensor.shape), _memory_format(tensor))


def pieces(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the values of a tensor as contiguous CPU tensors, one after the other.

    Pieces of a contiguous CPU tensor share its memory; other tensors are copied, about 8 MiB at a time.
    """
    tensor = as_integers(tensor)
    if tensor.is_contiguous():
        tensor = tensor.flatten()
        yield from (part.cpu() for part in torch.split(tensor, CHUNK // tensor.element_size()))
    elif tensor.nbytes <= CHUNK:
        yield tensor.cpu().contiguous()
    else:
        row = tensor.nbytes // len(tensor)
        parts = torch.split(tensor, CHUNK // row) if row <= CHUNK else tensor.unbind()
        for part in parts:
            yield from pieces(part)


def view(tensor: Tensor) -> memoryview:
    """Return a view of the bytes of a contiguous CPU tensor; the view keeps the tensor alive."""
    if tensor.nbytes == 0:
        return memoryview(b"")
    memory = (ctypes.c_ubyte * tensor.nbytes).from_address(tensor.data_ptr())
    memory.owner = tensor  # type: ignore[attr-defined]
    return memoryview(memory).cast("B")


def room(entry: Entry, offered: Tensor | None) -> Tensor:
    """Return a CPU tensor to read an entry into: the offered one if it has the entry's form, or a new one."""
    _check_byte_order()
    tensor = offered if offered is not None and _takes(offered, entry) else _empty(entry)
    linux.prefer_large_pages(tensor.data_ptr(), tensor.nbytes)
    return tensor


def _takes(tensor: Tensor, entry: Entry) -> bool:
    return (
        type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.device.type == "cpu"
        and tensor.layout is torch.strided
        and (_dtype_name(tensor), tuple(tensor.shape)) == (entry.dtype, entry.shape)
        and entry.memory_format is None
        and tensor.is_contiguous()
        and not (tensor.is_conj() or tensor.is_neg())
    )


def _empty(entry: Entry) -> Tensor:
    # Explicitly: the caller may have set another default device, such as meta.
    return torch.empty(entry.shape, dtype=torch_dtype(entry.dtype), device="cpu")


def outline(entry: Entry) -> Tensor:
    """Return a CPU tensor of zeros, of an entry's dtype and shape, with one number in memory."""
    return torch.zeros((), dtype=torch_dtype(entry.dtype), device="cpu").expand(entry.shape)


def restore(tensor: Tensor, entry: Entry, device: torch.device | str) -> Tensor:
    """Return a tensor that was read, converted to its memory format and moved to ``device``."""
    if entry.memory_format:
        ordered = torch.empty_like(tensor, memory_format=getattr(torch, entry.memory_format))
        as_integers(ordered).copy_(as_integers(tensor))
        tensor = ordered
    return tensor.to(device)


def _check_byte_order() -> None:
    if sys.byteorder != "little":
        raise CheckpointError("checkpoints hold little-endian numbers; use a machine that has them, too")


def _plain(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor without gradient and subclass, after a check that it can be stored under that name."""
    if problem := name_problem(name):
        raise ParamsError(f"{name!r} cannot name a tensor in a checkpoint: it {problem}; rename it")
    if why := unstorable(tensor):
        raise ParamsError(f"tensor {name!r} {why}")
    if _dtype_name(tensor) not in STORED_AS or not is_shape(list(tensor.shape), _dtype_name(tensor)):
        raise ParamsError(
            f"tensor {name!r} has dtype {tensor.dtype} and {tensor.dim()} dimensions, which a checkpoint "
            "cannot hold; convert it first"
        )
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        raise _without_memory(name, tensor)
    # A view of these as bytes would lack their pending conjugation or negation.
    return tensor.detach().as_subclass(Tensor).resolve_conj().resolve_neg()


def _identity(name: str, tensor: Tensor) -> tuple[object, ...]:
    """Return a key that is equal for two names of one tensor."""
    if tensor.numel() == 0:
        return (name,)
    try:
        memory = tensor.untyped_storage().data_ptr()
    except RuntimeError as error:
        raise _without_memory(name, tensor) from error
    return (tensor.device, memory, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)


def _without_memory(name: str, tensor: Tensor) -> ParamsError:
    return ParamsError(
        f"tensor {name!r} is a {type(tensor).__name__} without numbers of its own; convert it to a plain one"
    )


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _memory_format(tensor: Tensor) -> str | None:
    """Return the memory format of a tensor's strides, or ``None`` if it is contiguous."""
    for name, dimensions in MEMORY_FORMATS.items():
        if tensor.dim() == dimensions and tensor.numel():
            batch, channels, *lengths = tensor.shape
            whole, *image, channel = _strides((batch, *lengths, channels))
            if tensor.stride() == (whole, channel, *image) != _strides(tensor.shape):
                return name
    return None


def _strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a contiguous tensor."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def as_integers(tensor: Tensor) -> Tensor:
    """Return a view of a tensor's bits as integers."""
    # Every device copies integers bit by bit; floats may change (NaN).
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor.view(_INTEGERS[tensor.element_size()])
