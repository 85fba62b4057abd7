"""The weights that a network starts from, taken from a file by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from argus_core.checkpoint.module_state import Place, form_of, put_module_state
from argus_core.checkpoint.weights import read_weights
from argus_core.config.init_from import InitFrom
from argus_core.errors import ParamsError, StateMismatchError, near
from argus_core.files.working_folder import shown
from argus_core.model.prefixes import starred, suggested_rename
from argus_core.parallel.engine import AbstractParallel
from argus_core.parallel.single import Single

__all__ = ["InitialWeights", "take_weights"]

_SHOWN = 3


@dataclass(frozen=True)
class InitialWeights:
    """The tensors of a network's state that were taken from a file, and the others; ``str()`` says so.

    Attributes:
        path: of the file.
        average: the name of the average in the file that was taken, if it was one.
        taken: names in the network.
        fresh: names in the network whose tensors are as they were built.
        unused: names in the file, renamed, that the network does not have or whose shape differs.
        skipped: names in the file, renamed, that were to be skipped.
        rename: patterns by which unused tensors would fit the fresh ones, if any.
    """

    path: Path
    average: str | None
    taken: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]
    skipped: tuple[str, ...]
    rename: tuple[str, str] | None

    def __str__(self) -> str:
        average = f" (average {self.average!r})" if self.average else ""
        parts = [f"{len(self.taken)} of {len(self.taken) + len(self.fresh)} tensors taken"]
        for names, what in (
            (self.fresh, "left as built"),
            (self.skipped, "skipped in the file"),
            (self.unused, "unused in the file"),
        ):
            if names:
                parts.append(f"{len(names)} {what} ({_listed(names)})")
        if self.rename:
            parts.append(f"perhaps with {_as_option(self.rename)}")
        return f"weights from {shown(self.path)}{average}: {'; '.join(parts)}"


def take_weights(
    network: nn.Module, choice: InitFrom, what: str, engine: AbstractParallel | Single
) -> InitialWeights:
    """Load the weights of a file into a network, as far as their names agree.

    Args:
        network: to change in place.
        choice: the file, and what to take of it.
        what: the network, for messages.
        engine: the processes that share the network.

    Raises:
        StateMismatchError: no name agrees, or a shape differs that is not skipped.
        ParamsError: a pattern matches nothing, or two tensors get one name.
        CheckpointError: the file is missing, damaged, unsafe, or holds no weights.
    """
    state, average = read_weights(choice.path, choice.weights)
    built = network.state_dict()
    stored = _renamed(state, choice)
    # Compiled here: fnmatch remembers 256 patterns, and compiles more of them again for each name.
    skips = {pattern: re.compile(translate(pattern)).match for pattern in choice.skip}
    for pattern, matches in skips.items():
        if not any(map(matches, (*stored, *built))):
            hint = near(pattern, [*stored, *built]) or f"; the network has {_listed(built)}"
            raise ParamsError(f"init_from.skip: {pattern!r} matches no name{hint}")
    kept = {
        name: value for name, value in stored.items() if not any(matches(name) for matches in skips.values())
    }
    taken = {name: value for name, value in kept.items() if name in built}
    differing = [
        name
        for name, value in taken.items()
        if name.rpartition(".")[2] != "_extra_state" and not _fits(built[name], value)
    ]
    if differing and not choice.skips_mismatched:
        raise _mismatch(choice.path, differing, built, taken, what)
    taken = {name: value for name, value in taken.items() if name not in differing}
    if not taken:
        raise _no_match(choice.path, state, built, what)
    own = {name: engine.local(each) if isinstance(each, Tensor) else each for name, each in built.items()}
    tied = _tied(own)
    _check_tied(choice.path, taken, tied)
    _check_lazy(network, built, taken, choice.path)
    _put(network, taken, what, engine.place if engine.is_sharded else None)
    filled = {tied.get(name, name) for name in taken}
    fresh = [name for name in built if tied.get(name, name) not in filled]
    unused = [name for name in kept if name not in taken]
    return InitialWeights(
        choice.path,
        average,
        tuple(name for name in built if tied.get(name, name) in filled),
        tuple(fresh),
        tuple(unused),
        tuple(name for name in stored if name not in kept),
        suggested_rename(_forms(kept, unused), _forms(built, fresh)),
    )


def _renamed(state: Mapping[str, Any], choice: InitFrom) -> dict[str, Any]:
    """Return a state with the names that the first pattern of ``rename`` which fits gives them."""
    used: set[str] = set()
    names: dict[str, str] = {}
    for name in state:
        names[name] = name
        for old, new in choice.rename.items():
            parts = starred(old, name)
            if parts is not None:
                used.add(old)
                pieces = new.split("*")
                names[name] = pieces[0] + "".join(
                    part + piece for part, piece in zip(parts, pieces[1:], strict=True)
                )
                break
    for old in choice.rename:
        if old not in used:
            hint = near(old, [*state]) or f"; the file has {_listed(state)}"
            raise ParamsError(f"init_from.rename: {old!r} matches no name in {shown(choice.path)}{hint}")
    renamed: dict[str, Any] = {}
    for name, new in names.items():
        if new in renamed:
            first = next(each for each, its in names.items() if its == new)
            raise ParamsError(
                f"init_from.rename gives both {first!r} and {name!r} of {shown(choice.path)} the name "
                f"{new!r}; narrow one of its patterns"
            )
        renamed[new] = state[name]
    return renamed


def _fits(built: Any, stored: Any) -> bool:
    """Return whether a stored value may take the place of a built one; floating-point numbers are cast."""
    if not isinstance(built, Tensor) or not isinstance(stored, Tensor):
        return type(built) is type(stored)
    if stored.layout is not torch.strided or stored.is_quantized or stored.is_meta:
        return False
    if built.is_floating_point() != stored.is_floating_point() or built.is_complex() != stored.is_complex():
        return False
    return is_lazy(built) or built.shape == stored.shape


def _mismatch(
    path: Path, names: list[str], built: Mapping[str, Any], stored: Mapping[str, Any], what: str
) -> StateMismatchError:
    some = "; ".join(
        f"{name!r} is {form_of(stored[name])} in the file and {form_of(built[name])} in the network"
        for name in names[:_SHOWN]
    )
    more = f"; and {len(names) - _SHOWN} more" if names[_SHOWN:] else ""
    modules = dict.fromkeys(f"{name.rpartition('.')[0]}.*" if "." in name else name for name in names)
    skip = ", ".join(map(repr, [*modules][:_SHOWN]))
    return StateMismatchError(
        f"init_from: {shown(path)} does not fit {what}: {some}{more}; leave them as built by "
        f"init_from = {{ path = '...', skip = [{skip}] }}, or all such by mismatched = 'fresh' there"
    )


def _no_match(
    path: Path, state: Mapping[str, Any], built: Mapping[str, Any], what: str
) -> StateMismatchError:
    rename = suggested_rename(_forms(state), _forms(built))
    action = f"give {_as_option(rename)}" if rename else "give rename, or another file"
    return StateMismatchError(
        f"init_from: {shown(path)} holds none of the tensors of {what}: the file has {_listed(state)}, "
        f"and the network {_listed(built)}; {action}"
    )


def _tied(built: Mapping[str, Any]) -> dict[str, str]:
    """Return the first name of each tensor that has several."""
    first: dict[tuple[object, ...], str] = {}
    tied = {}
    for name, value in built.items():
        if isinstance(value, Tensor) and not is_lazy(value) and value.numel() and not value.is_meta:
            place = (
                value.untyped_storage()._cdata,
                value.storage_offset(),
                value.shape,
                value.stride(),
                value.dtype,
            )
            tied[name] = first.setdefault(place, name)
    return tied


def _check_tied(path: Path, taken: Mapping[str, Any], tied: Mapping[str, str]) -> None:
    """Raise where names of one tensor have different values in the file: the last would win silently."""
    seen: dict[str, str] = {}
    for name, value in taken.items():
        other = seen.setdefault(tied.get(name, name), name)
        if other != name and not torch.equal(value, taken[other].to(value.dtype)):
            raise StateMismatchError(
                f"init_from: {other!r} and {name!r} are one tensor in the network, and differ in "
                f"{shown(path)}; skip one of them"
            )


def _check_lazy(network: nn.Module, built: Mapping[str, Any], taken: Mapping[str, Any], path: Path) -> None:
    """Raise for a lazy module of which some parameters are taken: its first input would draw all of them."""
    for prefix, module in network.named_modules():
        lazy = [name for name, each in module.named_parameters(prefix, recurse=False) if is_lazy(each)]
        missing = [name for name in lazy if name not in taken]
        if missing and len(missing) < len(lazy):
            raise StateMismatchError(
                f"init_from: {shown(path)} lacks {missing[0]!r} of the lazy module {prefix!r}, which has "
                f"other weights in it; skip {prefix + '.*'!r}, or give the module its sizes"
            )


def _put(network: nn.Module, taken: Mapping[str, Any], what: str, place: Place | None) -> None:
    """Load a part of a state: module by module the rest is what the module has."""
    rest = {name: value for name, value in network.state_dict().items() if name not in taken}
    lazy = [name for name, value in rest.items() if isinstance(value, Tensor) and is_lazy(value)]
    if not lazy:
        put_module_state(network, {**rest, **taken}, what, place)
        return
    network.load_state_dict(dict(taken), strict=False)


def _forms(state: Mapping[str, Any], names: Iterable[str] | None = None) -> dict[str, str]:
    known = {name: state[name] for name in (state if names is None else names)}
    return {name: "lazy" if is_lazy(value) else form_of(value) for name, value in known.items()}


def _as_option(rename: tuple[str, str]) -> str:
    return f"rename = {{ {rename[0]!r} = {rename[1]!r} }}"


def _listed(names: Iterable[str]) -> str:
    known = list(names)
    return ", ".join(known[:_SHOWN]) + (f" and {len(known) - _SHOWN} more" if known[_SHOWN:] else "")
