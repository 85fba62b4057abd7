"""Checks of parameters by the types in a factory's signature, and lists that become tensors.

Only a value that cannot be meant is refused: text where the signature takes no text, a boolean for a number,
an integer beyond any float. Annotations with types other than plain ones are not checked. Signatures of other
packages are less exact than torch's: their numbers may be booleans, as in ``dropout=False``, and a parameter
without an annotation takes anything, as in ``norm="batch"``.
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

__all__ = ["arguments_for", "handed_over", "signature_of"]

_HANDED_OVER = {"optimizer": 1, "lr_scheduler": 1}
_DATASET = ("dataset", "data_source")  # the second in torch's samplers

_NUMBERS = frozenset({int, float, complex})
_TEXTS = frozenset({str, os.PathLike})
_SCALARS = _NUMBERS | {bool, str, type(None)}
_UNIONS = (typing.Union, types.UnionType)
_WORDS = {bool: "true or false", int: "an integer", float: "a number", complex: "a number", str: "a string"}


def signature_of(factory: Callable[..., Any]) -> inspect.Signature | None:
    """Return a factory's signature, with annotations evaluated to types where that is possible."""
    for evaluated in (True, False):
        try:
            return inspect.signature(factory, eval_str=evaluated)
        except Exception:  # an annotation may be any expression; some extension types have no signature
            continue
    return None


def handed_over(kind: str, factory: Callable[..., Any]) -> int:
    """Return the number of arguments that a run passes to a factory before the spec's parameters.

    The factory of a sampler asks for the dataset by the name of its first parameter.
    """
    if kind != "sampler":
        return _HANDED_OVER.get(kind, 0)
    signature = signature_of(factory)
    return int(signature is not None and next(iter(signature.parameters), None) in _DATASET)


def arguments_for(
    label: str,
    factory: Callable[..., Any],
    params: Mapping[str, Any],
    signature: inspect.Signature | None = None,
) -> dict[str, Any]:
    """Return the arguments for a factory; a list becomes a tensor where the factory takes only tensors.

    Args:
        label: the name of the component, for messages.
        factory: the callable that builds it.
        params: the parameters of its spec.
        signature: the factory's signature, if the caller has it already.

    Raises:
        ParamsError: a value has a type that its parameter does not take.
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
    """Return whether annotations are complete; in other packages ``int`` may stand for a pair too.

    Those of torch are complete. So are those of a function that declares ``exact_types``, and of a class that
    declares it beside its own ``__init__``.
    """
    kinds = inspect.getmro(factory) if isinstance(factory, type) else ()
    owner = next((kind for kind in kinds if "__init__" in vars(kind)), factory)
    return _is_torchs(factory) or bool(getattr(owner, "__dict__", {}).get("exact_types"))


def _is_torchs(factory: Callable[..., Any]) -> bool:
    return str(getattr(factory, "__module__", "")).partition(".")[0] == "torch"


def _accepted(parameter: inspect.Parameter, is_exact: bool) -> frozenset[Any] | None:
    """Return the types that a parameter takes, or ``None`` if the signature does not say."""
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return None
    if parameter.annotation is not parameter.empty:
        return _types(parameter.annotation)
    # Without an annotation only these defaults are clear: a parameter with the default 0 may take "same".
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
    return getattr(sys.modules.get("torch"), "Tensor", bool)  # without torch no annotation has it


def _check_type(label: str, name: str, value: Any, accepted: frozenset[Any], is_exact: bool) -> None:
    if isinstance(value, str):
        wrong = not accepted & _TEXTS
    elif isinstance(value, bool):
        is_number = not is_exact and bool(accepted & _NUMBERS)  # in Python a boolean is a number
        wrong = bool not in accepted and not is_number and bool(accepted & (_NUMBERS | _TEXTS))
    elif isinstance(value, int | float):
        # 0 and 1 are accepted for a boolean, as in Python.
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
                f"{label}: {name} is an integer of {number.bit_length():,} bits, larger than the largest "
                "float of torch, about 1.8e308; give a smaller one"
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
    """Return the dtype that a parameter takes, or ``None`` if the values determine it.

    A default that is a tensor determines the dtype. Parameters of torch's classes take torch's default dtype,
    also if a derived class passes them on under the same names.
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
            f"{label}: {name} is {value!r:.80}, which cannot become a tensor ({error}); "
            "give a list of numbers"
        ) from error
    if tensor.dtype is torch.bool:
        return tensor
    if dtype is None and tensor.is_floating_point():  # numpy's floats are wider than a network's
        dtype = torch.get_default_dtype()
    return tensor if dtype is None else tensor.to(dtype)
