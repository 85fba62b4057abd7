"""Models loaded twice, with and without drawing initial values, and all of the two compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from argus_core import Model, load_model
from argus_core.model import restoration


def load_both_ways(path: Path) -> tuple[Model, Model]:
    """Return a checkpoint's model as `load_model` builds it, and as it would without leaving values out.

    Both begin with the random generators in the same state.
    """
    torch.manual_seed(7)
    fast = load_model(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restoration, "build_without", lambda *_: None)
        torch.manual_seed(7)
        return fast, load_model(path)


def draws_numbers(path: Path) -> bool:
    """Return whether loading a checkpoint moves torch's random generator."""
    torch.manual_seed(7)
    before = torch.get_rng_state()
    load_model(path)
    return not torch.equal(before, torch.get_rng_state())


def differences(one: nn.Module, other: nn.Module) -> list[str]:
    """Return the names of all that differs in two networks: values to the bit, forms, ties, modes."""
    ours, theirs = dict(_everything(one)), dict(_everything(other))
    names = [*ours.keys() ^ theirs.keys()]
    names += [name for name in ours.keys() & theirs.keys() if not _same(ours[name], theirs[name])]
    if _ties(ours) != _ties(theirs):
        names.append("ties")
    return names


def _everything(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield every tensor and number that a network holds, registered or not, by where it is."""
    for name, child in module.named_modules():
        yield f"{name} is trained", child.training
        for place, value in vars(child).items():
            if place != "_modules" and "hook" not in place:  # hooks are numbered through the process
                yield from _values(value, f"{name}/{place}", set())


def _values(value: Any, where: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Tensor | int | float | str | None):
        yield where, value
    elif isinstance(value, dict | list | tuple) and id(value) not in seen:
        seen.add(id(value))
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _values(item, f"{where}/{key}", seen)


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return bool(one == other) or one != one
    if type(one) is not type(other) or torch.nn.parameter.is_lazy(one):
        return type(one) is type(other)
    forms = [
        (tensor.dtype, tensor.shape, tensor.stride(), tensor.requires_grad, tensor.device)
        for tensor in (one, other)
    ]
    return forms[0] == forms[1] and _bits(one) == _bits(other)


def _bits(tensor: Tensor) -> bytes:
    return bytes(tensor.detach().contiguous().flatten().view(torch.uint8).numpy()) if tensor.numel() else b""


def _ties(values: dict[str, Any]) -> set[frozenset[str]]:
    owners: dict[int, set[str]] = {}
    for name, value in values.items():
        if isinstance(value, Tensor) and not torch.nn.parameter.is_lazy(value) and value.numel():
            owners.setdefault(value.untyped_storage().data_ptr(), set()).add(name)
    return {frozenset(names) for names in owners.values()}
