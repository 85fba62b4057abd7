"""Lossless encoding of plain data as JSON, and decoding.

Tags represent the types that JSON lacks::

    {"$tuple": [1, 2]}                  {"$dict": [[key, value], ...]}   keys other than plain strings
    {"$float": "inf"}                   {"$int": "0x1ffffffffffffffff"}  beyond 64 bits
    {"$bytes": "<base64>"}              {"$path": "runs/a"}
    {"$dtype": "float32"}               {"$device": "cuda:0"}
    {"$scalar": ["float32", 0.5]}       of numpy
    {"$tensor": "params/weight"}        {"$ndarray": "params/mean"}      stored beside the manifest

`decode` accepts only these tags: it imports and constructs no object that a checkpoint names.
"""

from __future__ import annotations

import base64
import contextlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argus_core.errors import CheckpointError, CorruptCheckpointError, ParamsError, UnsafeCheckpointError
from argus_core.storage.plain_data import NUMBERS, check_plain, is_object, plain_type
from argus_core.text import one_line

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["decode", "describe", "encode", "references", "tensor_names", "torch_dtype"]

_SMALL = range(-(2**63), 2**64)
_FLOATS = ("inf", "-inf", "nan")
_UNUSUAL = re.compile(r"[^A-Za-z0-9_.-]+")
# The hexadecimal length of the longest integer that is plain data.
_HEXADECIMAL = r"-?0x[0-9a-f]{1,3500}"
_MOST_OF_ONE_HASH = 256  # keys of a dict: a file can choose them, and they take time by their square

# The JSON type of each tag's payload.
_PAYLOADS: dict[str, type] = {
    **dict.fromkeys(("$tuple", "$dict", "$scalar"), list),
    **dict.fromkeys(("$float", "$int", "$bytes", "$path", "$dtype", "$device", "$tensor", "$ndarray"), str),
}


def encode(value: object, prefix: str, tensors: dict[str, Tensor]) -> Any:
    """Return plain data encoded as JSON-compatible data.

    Args:
        value: plain data (see `plain_data.check_plain`).
        prefix: of the names of its tensors: ``"params"`` gives ``"params/loss/weight"``.
        tensors: receives the tensors and arrays in the value, by those names.

    Raises:
        ParamsError: the value contains other than plain data; the message holds the path to it.
    """
    check_plain(value, prefix)
    return _encode(value, prefix, tensors)


def decode(encoded: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the plain data that `encode` encoded.

    Args:
        encoded: the return value of `encode`.
        tensors: at least the tensors that it names (see `tensor_names`).

    Raises:
        UnsafeCheckpointError: a tag is unknown or has an invalid payload.
        CorruptCheckpointError: a tensor is missing.
    """
    if isinstance(encoded, list):
        return [decode(item, tensors) for item in encoded]
    if not isinstance(encoded, dict):
        return encoded
    if is_object(encoded):
        return {key: decode(item, tensors) for key, item in encoded.items()}
    tag, payload = next(iter(encoded.items()))
    if len(encoded) != 1 or type(payload) is not _PAYLOADS.get(tag):
        raise _refused(encoded)
    try:
        return _decode_tag(tag, payload, tensors)
    except (ValueError, TypeError, OverflowError) as error:
        raise _refused(encoded) from error


def describe(encoded: Any) -> Any:
    """Return encoded data in a readable form, to print or to dump as JSON, without torch or numpy.

    Characters that are not printable are escaped, since a checkpoint may be untrusted.
    """
    if isinstance(encoded, list):
        return [describe(item) for item in encoded]
    if isinstance(encoded, str):
        return one_line(encoded)
    if not isinstance(encoded, dict):
        return encoded
    tag, payload = next(iter(encoded.items()), ("", None))
    if len(encoded) == 1 and type(payload) is _PAYLOADS.get(tag):
        with contextlib.suppress(ValueError, IndexError):
            return _describe_tag(tag, payload)
    # Data that decode() would reject is shown unchanged.
    return {one_line(key): describe(item) for key, item in encoded.items()}


def tensor_names(encoded: Any) -> list[str]:
    """Return the names of the tensors and arrays that encoded data references, in order, each once."""
    return list(dict.fromkeys(references(encoded)))


def references(encoded: Any) -> Iterator[str]:
    """Return the names of the tensors and arrays that encoded data references, in order, repeats included."""
    if isinstance(encoded, list):
        for item in encoded:
            yield from references(item)
    elif isinstance(encoded, dict):
        for key, item in encoded.items():
            if key in ("$tensor", "$ndarray") and isinstance(item, str):
                yield item
            else:
                yield from references(item)


def _encode(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    sort = plain_type(value)
    if sort == "list":
        return [_encode(item, f"{name}/{index}", tensors) for index, item in enumerate(value)]
    if sort == "tuple":
        return {"$tuple": [_encode(item, f"{name}/{index}", tensors) for index, item in enumerate(value)]}
    if sort == "dict":
        return _encode_dict(value, name, tensors)
    if sort in ("tensor", "ndarray"):
        return _put(value, str(sort), name, tensors)
    return _encode_atom(value, str(sort))


def _encode_dict(value: dict[Any, Any], name: str, tensors: dict[str, Tensor]) -> Any:
    if is_object(value):
        return {key: _encode(item, f"{name}/{_segment(key)}", tensors) for key, item in value.items()}
    keys = [_encode(key, name, tensors) for key in value]
    # The position represents the key, since 1 and "1" would have the same name.
    items = [_encode(item, f"{name}/{index}", tensors) for index, item in enumerate(value.values())]
    return {"$dict": [list(pair) for pair in zip(keys, items, strict=True)]}


def _encode_atom(value: Any, sort: str) -> Any:
    if sort == "int":
        return value if value in _SMALL else {"$int": hex(value)}
    if sort == "float":
        return value if math.isfinite(value) else {"$float": repr(value)}
    if sort == "bytes":
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    if sort == "path":
        return {"$path": value.as_posix()}
    if sort == "dtype":
        return {"$dtype": str(value).removeprefix("torch.")}
    if sort == "device":
        return {"$device": str(value)}
    if sort == "scalar":
        number = value.item()
        return {"$scalar": [value.dtype.name, _encode_atom(number, type(number).__name__)]}
    return value


def _put(value: Any, sort: str, name: str, tensors: dict[str, Tensor]) -> dict[str, str]:
    if name in tensors:
        raise ParamsError(f"two tensors would be stored as {name!r}; give one of them another key")
    if sort == "ndarray":
        import numpy
        import torch

        # torch shares the memory of writable arrays in C order, and warns or raises for others.
        value = torch.from_numpy(numpy.require(value, requirements=["C", "W"]))
    tensors[name] = value
    return {f"${sort}": name}


def _segment(key: str) -> str:
    """Return a dict's key as one segment of a tensor's name; different keys give different segments."""
    quoted = _UNUSUAL.sub(lambda found: "%" + found[0].encode("utf-8", "surrogatepass").hex("%").upper(), key)
    # "", "." and ".." are invalid in a path, and no other key becomes a lone "%".
    return quoted if quoted.strip(".") else "%" + "%2E" * len(quoted)


def _decode_tag(tag: str, payload: Any, tensors: Mapping[str, Tensor]) -> Any:
    if tag == "$tuple":
        return tuple(decode(payload, tensors))
    if tag == "$dict":
        return _decode_dict(payload, tensors)
    if tag == "$scalar":
        return _decode_scalar(payload, tensors)
    if tag == "$tensor":
        return _get(payload, tensors)
    if tag == "$ndarray":
        return _numpy().asarray(_get(payload, tensors).cpu())
    return _decode_text(tag, payload)


def _decode_text(tag: str, text: str) -> Any:
    if tag == "$float" and text in _FLOATS:
        return float(text)
    if tag == "$int" and re.fullmatch(_HEXADECIMAL, text):
        return int(text, 16)
    if tag == "$bytes":
        return base64.b64decode(text, validate=True)
    if tag == "$path":
        return Path(text)
    if tag == "$dtype":
        return torch_dtype(text)
    if tag == "$device" and re.fullmatch(r"[a-z]{1,20}(:[0-9]{1,4})?", text):
        return _torch_device(text)
    raise ValueError(text)


def _decode_dict(pairs: list[Any], tensors: Mapping[str, Tensor]) -> dict[Any, Any]:
    keys = [decode(key, tensors) for key, _ in _checked_pairs(pairs)]
    if max(Counter(map(hash, keys)).values(), default=0) > _MOST_OF_ONE_HASH or len(set(keys)) < len(keys):
        raise ValueError("keys of one hash, or a key twice")
    return {key: decode(item, tensors) for key, (_, item) in zip(keys, pairs, strict=True)}


def _checked_pairs(pairs: list[Any]) -> list[Any]:
    if any(type(pair) is not list or len(pair) != 2 for pair in pairs):
        raise ValueError("not pairs")
    return pairs


def _decode_scalar(payload: list[Any], tensors: Mapping[str, Tensor]) -> Any:
    name, encoded = payload
    number = decode(encoded, tensors)
    if name not in NUMBERS or type(number) not in (bool, int, float):
        raise ValueError(name)
    return _numpy().dtype(name).type(number)


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise CheckpointError("the checkpoint holds numpy arrays or scalars; pip install numpy") from error
    return numpy


def _get(name: str, tensors: Mapping[str, Tensor]) -> Tensor:
    if name not in tensors:
        raise CorruptCheckpointError(
            f"the manifest names the tensor {name!r}, which the checkpoint does not hold"
        )
    return tensors[name]


def torch_dtype(name: str) -> torch.dtype:
    """Return a dtype of torch by its name."""
    import torch

    # Not getattr(torch, name), which imports modules for some names.
    dtype = vars(torch).get(name)
    if not isinstance(dtype, torch.dtype):
        raise CheckpointError(f"torch {torch.__version__} has no dtype {name!r}; upgrade torch")
    return dtype


def _torch_device(text: str) -> Any:
    import torch

    try:
        device = torch.device(text)
    except RuntimeError as error:
        raise ValueError(text) from error
    if str(device) != text:  # torch wraps indices beyond 127
        raise ValueError(text)
    return device


def _refused(encoded: dict[str, Any]) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f"the manifest holds {str(encoded)[:80]!r}, which argus_core does not write; do not trust this file"
    )


def _describe_tag(tag: str, payload: Any) -> Any:
    if tag == "$tuple":
        return tuple(describe(payload))
    if tag == "$dict":
        return {_key_text(describe(key)): describe(item) for key, item in _checked_pairs(payload)}
    if tag == "$scalar":
        return describe(payload[1])
    if tag == "$bytes":
        return f"<{len(payload) * 3 // 4 - payload.count('=')} bytes>"
    if tag in ("$tensor", "$ndarray"):
        return f"<{tag[1:]} {one_line(payload)}>"
    return "torch." * (tag == "$dtype") + one_line(payload)


def _key_text(key: Any) -> str:
    return key if isinstance(key, str) and not key.startswith("$") else repr(key)
