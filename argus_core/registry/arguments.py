"""What a factory's signature says of its arguments: their types, and where a list stands for a tensor.

Only what cannot be meant is refused: text where the signature has no text, a boolean for a number, an integer
beyond any float. An annotation of anything else than plain types is not judged, and where another package's
signature has a number or no annotation, a boolean or anything goes: ``dropout=False``, ``norm="batch"``.
"""

from __future__ import annotations

import inspect
import os
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from argus_core.errors import ParamsError

__all__ = ["arguments_for", "signature_of"]

_NUMBERS = frozenset({int, float, complex})
_TEXTS = frozenset({str, os.PathLike})
_SCALARS = _NUMBERS | {bool, str, type(None)}
_UNIONS = (typing.Union, types.UnionType)
_WORDS = {bool: "true or false", int: "an integer", float: "a number", complex: "a number", str: "a string"}


def signature_of(factory: Callable[..., Any]) -> inspect.Signature | None:
    """Return a factory's signature, with the types that its annotations name where they can be found."""
    for evaluated in (True, False):
        try:
            return inspect.signature(factory, eval_str=evaluated)
        except Exception:  # an annotation may be any expression; some extension types have no signature
            continue
    return None


def arguments_for(
    label: str,
    factory: Callable[..., Any],
    params: Mapping[str, Any],
    signature: inspect.Signature | None = None,
) -> dict[str, Any]:
    """Return parameters as a factory takes them: a list or an array is a tensor where it takes only tensors.

    Args:
        label: what the factory builds, for messages.
        factory: of a part.
        params: for it.
        signature: the factory's, where the caller has it already.

    Raises:
        ParamsError: a value cannot be what its parameter takes; both are named.
    """
    known: Mapping[str, inspect.Parameter] = (
        _parameters(factory) if signature is None else signature.parameters
    )
    is_exact = _is_exact(factory)
    arguments = {}
    for name, value in params.items():
        parameter = known.get(name)
        _check_size(label, name, value)
        accepted = None if parameter is None else _accepted(parameter, is_exact)
        if accepted is not None:
            _check_type(label, name, value, accepted, is_exact)
            if isinstance(value, list | tuple | dict) and accepted <= _SCALARS and is_exact:
                raise ParamsError(f"{label}: {name} is {value!r:.80}; give {_told(accepted)}")
            if _stands_for_tensor(value, accepted):
                value = _as_tensor(label, name, value, _dtype(factory, name, known[name].default))
        arguments[name] = value
    return arguments


def _parameters(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    signature = signature_of(factory)
    return {} if signature is None else signature.parameters


def _is_exact(factory: Callable[..., Any]) -> bool:
    """Return whether annotations leave nothing out; those of others may say int where a pair does as well.

    torch's are exact, and those of a function that declares ``exact_types``, or of a class that declares it
    beside its own ``__init__``.
    """
    kinds = inspect.getmro(factory) if isinstance(factory, type) else ()
    owner = next((kind for kind in kinds if "__init__" in vars(kind)), factory)
    return _is_torchs(factory) or bool(getattr(owner, "__dict__", {}).get("exact_types"))


def _is_torchs(factory: Callable[..., Any]) -> bool:
    return str(getattr(factory, "__module__", "")).partition(".")[0] == "torch"


def _accepted(parameter: inspect.Parameter, is_exact: bool) -> frozenset[Any] | None:
    """Return the types that a parameter takes, ``None`` where the signature does not say."""
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return None
    if parameter.annotation is not parameter.empty:
        return _types(parameter.annotation)
    # Without an annotation only these defaults leave no doubt: 0, say, may stand beside "same".
    is_sure = is_exact and type(parameter.default) in (bool, float)
    return frozenset({type(parameter.default)}) if is_sure else None


def _types(annotation: Any) -> frozenset[Any] | None:
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return frozenset(type(value) for value in typing.get_args(annotation))
    if origin in _UNIONS:
        members = [_types(member) for member in typing.get_args(annotation)]
        return None if None in members else frozenset().union(*filter(None, members))
    if annotation is None or annotation in (type(None), bool, int, float, complex, str, _tensor_class()):
        return frozenset({type(None) if annotation is None else annotation})
    if isinstance(annotation, type) and issubclass(annotation, os.PathLike):
        return frozenset({os.PathLike})
    return None


def _tensor_class() -> Any:
    return getattr(sys.modules.get("torch"), "Tensor", bool)  # without torch nothing is annotated with it


def _check_type(label: str, name: str, value: Any, accepted: frozenset[Any], is_exact: bool) -> None:
    if isinstance(value, str):
        wrong = not accepted & _TEXTS
    elif isinstance(value, bool):
        is_number = not is_exact and bool(accepted & _NUMBERS)  # to Python it is one
        wrong = bool not in accepted and not is_number and bool(accepted & (_NUMBERS | _TEXTS))
    elif isinstance(value, int | float):
        # Python's own 0 and 1 for a boolean are as good as any.
        wrong = not accepted & (_NUMBERS | {bool}) or (accepted <= {bool, type(None)} and value not in (0, 1))
    else:
        return
    if wrong:
        raise ParamsError(f"{label}: {name} is {value!r:.80}, {_kind(value)}; give {_told(accepted)}")


def _kind(value: Any) -> str:
    return {"bool": "a boolean", "str": "a string"}.get(type(value).__name__, "a number")


def _told(accepted: frozenset[Any]) -> str:
    kinds = accepted - {int} if accepted & {float, complex} else accepted
    words = [word for kind, word in _WORDS.items() if kind in kinds]
    if os.PathLike in kinds:
        words.append("a path")
    if not words and _tensor_class() in kinds:
        words.append("a list of numbers, or a tensor")
    return " or ".join(dict.fromkeys(words)) or "nothing"


def _check_size(label: str, name: str, value: Any) -> None:
    for number in _integers(value):
        try:
            float(number)
        except OverflowError:
            raise ParamsError(
                f"{label}: {name} is an integer of {number.bit_length():,} bits, beyond the largest number "
                "of torch, about 1.8e308; give a smaller one"
            ) from None


def _integers(value: Any) -> Iterator[int]:
    if type(value) is int:
        yield value
    elif type(value) in (list, tuple, dict):
        for item in value.values() if type(value) is dict else value:
            yield from _integers(item)


def _stands_for_tensor(value: Any, accepted: frozenset[Any]) -> bool:
    is_listed = isinstance(value, list | tuple | getattr(sys.modules.get("numpy"), "ndarray", list))
    torch = sys.modules.get("torch")
    return is_listed and accepted - {type(None)} == {getattr(torch, "Tensor", None)}


def _dtype(factory: Callable[..., Any], name: str, default: Any) -> Any:
    """Return the dtype that a parameter takes, or ``None`` where the values themselves have to say it.

    It is the dtype of a default that is a tensor. torch's own parameters weigh the numbers of a network, and
    take the default dtype, also where a class derived from one of torch's passes them on under their names.
    """
    torch: Any = sys.modules["torch"]
    if isinstance(default, torch.Tensor):
        return default.dtype
    owners: list[Any] = [factory, *(inspect.getmro(factory) if isinstance(factory, type) else ())]
    is_torchs = any(_is_torchs(owner) and name in _parameters(owner) for owner in owners)
    return torch.get_default_dtype() if is_torchs else None


def _as_tensor(label: str, name: str, value: Any, dtype: Any) -> Any:
    torch: Any = sys.modules["torch"]
    try:
        tensor = torch.tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ParamsError(
            f"{label}: {name} takes a tensor, and of {value!r:.80} none can be made ({error}); "
            "give a list of numbers"
        ) from error
    if tensor.dtype is torch.bool:
        return tensor
    if dtype is None and tensor.is_floating_point():  # numpy's are wider than a network's
        dtype = torch.get_default_dtype()
    return tensor if dtype is None else tensor.to(dtype)
