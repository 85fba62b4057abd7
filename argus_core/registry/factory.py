"""Building a component from its spec: the only way in which factories are looked up and called."""

from __future__ import annotations

import inspect
import itertools
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from argus_core.errors import ArgusError, BuildError, ParamsError, near
from argus_core.registry.arguments import arguments_for, signature_of
from argus_core.registry.file_params import declared
from argus_core.registry.registry import resolve
from argus_core.registry.spec import is_spec, parse_spec

__all__ = [
    "build_component",
    "build_many",
    "call_factory",
    "check_params",
    "described",
    "in_a_sentence",
    "initial_values",
    "initial_values_wanted",
    "name_of",
]

_values_wanted: ContextVar[bool] = ContextVar("initial values are wanted", default=True)

# Items that a message shows: parameters from a file may be as long as the file.
_SHOWN = 20


class _Repr(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to print integers that are much longer.
        return repr(x) if x.bit_length() < 256 else f"<an integer of {x.bit_length():,} bits>"


_REPR = _Repr()
_REPR.maxdict = _REPR.maxlist = _REPR.maxtuple = _SHOWN
_REPR.maxstring = _REPR.maxother = 200


def build_component(kind: str, value: Any, where: str, *args: Any) -> Any:
    """Build the component that a spec chooses, from ``args`` and the spec's parameters."""
    spec = parse_spec(kind, value, where)
    return call_factory(f"{kind} {spec.name!r}", resolve(kind, spec.name).load(), args, spec.params)


def build_many(kind: str, values: Any, where: str) -> list[Any]:
    """Build components from one spec or several; instances are returned unchanged."""
    if values is None:
        return []
    if not isinstance(values, list | tuple) or is_spec(values):
        values = [values]
    return [
        build_component(kind, value, f"{where}[{index}]") if isinstance(value, str | tuple | list) else value
        for index, value in enumerate(values)
    ]


def initial_values_wanted() -> bool:
    """Return whether the values that a factory gives to weights will be used.

    They are not used if the state of a checkpoint overwrites them, as in `load_model`. A factory that
    downloads or reads pretrained weights calls this first, and skips them if it returns False.
    """
    return _values_wanted.get()


@contextmanager
def initial_values(*, wanted: bool) -> Iterator[None]:
    """Set the result of `initial_values_wanted` for factories that are called in the ``with`` block."""
    token = _values_wanted.set(wanted)
    try:
        yield
    finally:
        _values_wanted.reset(token)


def call_factory(
    label: str, factory: Callable[..., Any], args: Iterable[Any], params: Mapping[str, Any]
) -> Any:
    """Return ``factory(*args, **params)``.

    Raises:
        ParamsError: the factory does not take these parameters, or not values of these types.
        UnsafeCheckpointError, ConfigError: a file sets a parameter that only the caller may set.
        BuildError: the factory raised an exception.
    """
    args = tuple(args)
    signature = check_params(label, factory, args, params)
    arguments = arguments_for(label, factory, params, signature)
    with (
        in_a_sentence(
            BuildError, lambda: f"{label} cannot be built from {_shown(params)}", "check its parameters"
        ),
        declared(label, factory, params),
    ):
        return factory(*args, **arguments)


@contextmanager
def in_a_sentence(failure: type[ArgusError], problem: Callable[[], str], action: str) -> Iterator[None]:
    """Raise ``failure`` for any exception of a plugin's code, SystemExit included."""
    try:
        yield
    except ArgusError:
        raise
    except (Exception, SystemExit) as error:
        raise failure(f"{problem()}: {type(error).__name__}: {error}; {action}") from error


def check_params(
    label: str, factory: Callable[..., Any], args: tuple[Any, ...], params: Mapping[str, Any]
) -> inspect.Signature | None:
    """Check by its signature that a factory takes these arguments and parameters, and return the signature.

    Returns ``None`` if the factory has no signature: the call itself checks then.

    Raises:
        ParamsError: it does not take them; the message shows the signature and the parameters.
    """
    signature = signature_of(factory)
    if signature is None:
        return None
    try:
        signature.bind(*args, **params)
    except TypeError as error:
        takes = [name for name in list(signature.parameters)[len(args) :] if name != "self"]
        any_name = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
        unknown = None if any_name else next((name for name in params if name not in takes), None)
        problem = f"does not take these parameters ({error})"
        if unknown is not None:  # more telling than what is missing, for which it may stand
            problem = f"has no parameter {unknown!r}{near(unknown, takes)}"
        raise ParamsError(
            f"{label} {problem}; it takes {name_of(factory)}{_without_types(signature)}, not {_shown(params)}"
        ) from error
    return signature


def _without_types(signature: inspect.Signature) -> inspect.Signature:
    empty = inspect.Signature.empty
    parameters = [parameter.replace(annotation=empty) for parameter in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=empty)


def name_of(factory: Callable[..., Any]) -> str:
    """Return the name of a factory for messages."""
    return getattr(factory, "__qualname__", None) or repr(factory)


def described(value: Any) -> str:
    """Return a description of a wrong value for messages, without an address in memory.

    Such as ``3``, ``an object of class Net``, ``the class Net``, ``the function start``.
    """
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    if inspect.isroutine(value):
        return f"the function {getattr(value, '__qualname__', value.__name__)}"
    shown = _REPR.repr(value)  # copes with a __repr__ that raises
    return f"an object of class {type(value).__qualname__}" if " at 0x" in shown else shown


def _shown(params: Mapping[str, Any]) -> str:
    some = itertools.islice(params.items(), _SHOWN)
    shown = " ".join(", ".join(f"{name}={_REPR.repr(value)}" for name, value in some).split())  # on one line
    return f"({shown})" if len(shown) < 200 else f"({shown[:200]}...)"
