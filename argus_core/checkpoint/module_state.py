"""Restoring the state of a module, whose forms are compared before its tensors are read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from argus_core.checkpoint.abstract_saved import AbstractSaved
from argus_core.errors import StateMismatchError
from argus_core.storage.mismatch import fitting

__all__ = ["check_module_forms", "form_of", "load_module", "load_module_state", "put_module_state"]

_ADVICE = "build it with the parameters it was saved with, or give change_state_dict_func"
_SHOWN = 5

Place = Callable[[Tensor, Tensor], Tensor]
_DEFAULT_DTYPES = {"float64", "float32", "bfloat16", "float16"}


def form_of(value: object) -> str:
    """Return the dtype and shape of a tensor, or the type of any other value, as text for messages."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{_name(value.dtype)}{list(value.shape)}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def check_module_forms(module: nn.Module, forms: Mapping[str, str], what: str) -> None:
    """Check that a state whose values have these forms fits a module.

    Raises:
        StateMismatchError: names, shapes or dtypes differ; the message lists them.
    """
    built = module.state_dict()
    problems = list(_differences(built, forms))
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if problems[_SHOWN:] else ""
        shown = "; ".join(problems[:_SHOWN]) + more
        advice = _default_dtype_advice(built, forms) or _ADVICE
        raise StateMismatchError(f"the stored state does not fit {what}: {shown}; {advice}")


def _default_dtype_advice(built: Mapping[str, Any], stored: Mapping[str, str]) -> str:
    """Return the next action where only floating-point dtypes differ, and the built module has the default.

    The likely cause is torch's default dtype when the saved module was built, which params do not record.
    """
    if built.keys() != stored.keys():
        return ""
    ours, theirs = set(), set()
    for name, value in built.items():
        if _is_fixed(name, value) and form_of(value) != stored[name]:
            dtype, _, shape = stored[name].partition("[")
            if form_of(value).partition("[")[2] != shape:
                return ""
            ours.add(value.dtype)
            theirs.add(dtype)
    default = torch.get_default_dtype()
    if ours != {default} or len(theirs) > 1 or not theirs <= _DEFAULT_DTYPES:
        return ""
    (dtype,) = theirs
    return (
        f"torch's default dtype was likely {dtype} when it was built: it is {_name(default)} here; call "
        f"torch.set_default_dtype(torch.{dtype}) before, or give change_state_dict_func"
    )


def _differences(built: Mapping[str, Any], stored: Mapping[str, str]) -> Iterator[str]:
    yield from (f"{name!r} is missing from the file" for name in built if name not in stored)
    yield from (f"{name!r} is not in what was built" for name in stored if name not in built)
    for name, ours in built.items():
        if name in stored and _is_fixed(name, ours) and form_of(ours) != stored[name]:
            yield f"{name!r} is {stored[name]} in the file and {form_of(ours)} in what was built"


def _is_fixed(name: str, built: Any) -> bool:
    """Return whether a state must have the form of the built value, as for all tensors but a few."""
    is_lazy = hasattr(built, "materialize")  # takes the form of the loaded tensor
    is_extra = name.rpartition(".")[2] == "_extra_state"  # of any size and type, checked by the module
    return isinstance(built, Tensor) and not is_lazy and not is_extra


def load_module_state(
    module: nn.Module, state: Mapping[str, Any], what: str, place: Place | None = None
) -> None:
    """Load ``state`` into ``module``, completely or not at all; see `put_module_state`.

    Raises:
        StateMismatchError: names, shapes or dtypes differ; the message lists them.
    """
    check_module_forms(module, {name: form_of(value) for name, value in state.items()}, what)
    put_module_state(module, state, what, place)


def load_module(
    saved: AbstractSaved, part: str, module: nn.Module, what: str, place: Place | None = None
) -> None:
    """Load the saved state of a part into ``module``, which messages call ``what``; see `put_module_state`.

    Raises:
        StateMismatchError: the state does not fit; none of its tensors has been read.
    """
    check_module_forms(module, saved.forms(part), what)
    put_module_state(module, saved.read(part), what, place)


def put_module_state(
    module: nn.Module, state: Mapping[str, Any], what: str, place: Place | None = None
) -> None:
    """Load a state of checked form into ``module``.

    Args:
        module: to change.
        state: in full.
        what: the module, for messages.
        place: returns the part of a full tensor that has the place of another; see `AbstractParallel.place`.
    """
    built = module.state_dict()
    if place is not None:
        state = {
            name: place(built[name], value) if isinstance(built.get(name), Tensor) else value
            for name, value in state.items()
        }
    with fitting(what, _ADVICE):  # an error of a hook, or of set_extra_state
        module.load_state_dict(_with_versions(state, built))


def _with_versions(state: Mapping[str, Any], built: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a state with the version number of each built submodule.

    Without a version a module may treat the state as one of its first release, or reject it.
    """
    if hasattr(state, "_metadata"):
        return state
    versioned = OrderedDict(state)
    versioned._metadata = getattr(built, "_metadata", None)  # type: ignore[attr-defined]
    return versioned
