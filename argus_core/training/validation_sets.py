"""The validation sets of a run, one or several by name: their loaders and callbacks by phase."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from argus_core.errors import ConflictError, ParamsError
from argus_core.registry.factory import build_many, described
from argus_core.registry.file_params import file_params_of

__all__ = ["callbacks_by_phase", "check_batched", "check_names", "loaders_by_phase"]

_PHASES = ("train", "val", "test")


def loaders_by_phase(val_loader: Any) -> dict[str, Iterable[Any]]:
    """Return the loaders by phase: ``val`` of one loader, ``val_clean`` of the set ``clean`` of a dict.

    Raises:
        ParamsError: there is something else than a loader, or a set has no usable name.
    """
    if val_loader is None:
        return {}
    is_batch = isinstance(val_loader, Mapping) and any(map(_is_data, val_loader.values()))
    if not isinstance(val_loader, Mapping) or is_batch:
        check_batched("val", val_loader)
        return {"val": val_loader}
    if not val_loader:
        raise ParamsError(
            "val_loader is an empty dict; give the loader of each validation set by its name, such as "
            "{'clean': loader}, or leave val_loader out"
        )
    for name, loader in val_loader.items():
        _check_name(name)
        check_batched(f"val_{name}", loader)
        if not hasattr(loader, "__iter__") and not hasattr(loader, "__getitem__"):
            raise ParamsError(
                f"the loader of the validation set {name!r} is {reprlib.repr(loader)}; give an iterable of "
                "batches, such as a list or a torch.utils.data.DataLoader"
            )
    return {f"val_{name}": loader for name, loader in val_loader.items()}


def check_names(phases: Iterable[str], metrics: Iterable[Any]) -> None:
    """Check that no validation set is named as a metric is, and that all their values have different names.

    Raises:
        ConflictError: one is, or two values would have the same name.
    """
    names = [phase.removeprefix("val_") for phase in phases if phase != "val"]
    metrics = [*metrics]
    for metric in metrics:
        if metric.name in names:
            raise ConflictError(
                f"a validation set is named {metric.name!r}, as a metric of the run is; give the set another "
                "name"
            )
    counts = Counter(f"{name}_{metric.name}" for name in names for metric in metrics)
    for value, count in counts.items():
        if count > 1:
            sets = " and ".join(repr(name) for name in names if value.startswith(f"{name}_"))
            raise ConflictError(
                f"validation sets {sets} would both compute val_{value}; give one of them another name"
            )


def callbacks_by_phase(phases: Iterable[str], callbacks: Any, argument: str) -> dict[str, list[Any]]:
    """Return the callbacks of each phase: own ones of a dict by set, else those of specs built for each.

    An instance that is not in a dict hears the events of every set.

    Raises:
        ParamsError: a dict names an unknown set.
        ConflictError: one that writes files would write those of several sets to one place.
    """
    phases = [*phases]
    if isinstance(callbacks, Mapping):
        known = [phase.removeprefix("val_") for phase in phases if phase != "val"]
        for name in callbacks:
            if name not in known:
                sets = (
                    f"the sets are {', '.join(map(repr, known))}" if known else "the run has one unnamed set"
                )
                raise ParamsError(f"{argument} names the validation set {name!r}; {sets}; name one of them")
        by_phase = {f"val_{name}": each for name, each in callbacks.items()}
        return {phase: build_many("callback", by_phase.get(phase), argument) for phase in phases}
    built = {phase: build_many("callback", callbacks, argument) for phase in phases}
    if len(phases) > 1:
        _check_places(phases, built, argument)
    return built


def _check_places(phases: list[str], built: Mapping[str, list[Any]], argument: str) -> None:
    """Raise for a callback that would write several sets to the same place."""
    for callback in (each for callbacks in built.values() for each in callbacks):
        if any(rule.writes for rule in file_params_of(type(callback)).values()):
            name = getattr(callback, "name", type(callback).__name__)
            own = ", ".join(f"{phase.removeprefix('val_')!r}: [...]" for phase in phases)
            raise ConflictError(
                f"{argument} has {name!r}, which writes files, and there are {len(phases)} validation sets; "
                f"give each its own: {argument}={{{own}}}"
            )


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise ParamsError(
            f"a validation set is named {described(name) if not isinstance(name, str) else repr(name)}; give "
            "it a name of letters, digits and underscores, such as 'clean', whose loss is val_clean_loss"
        )
    if name in _PHASES:
        raise ParamsError(
            f"a validation set is named {name!r}, as a phase of a run is; give it another, such as 'clean'"
        )


def _is_data(value: Any) -> bool:
    """Return whether a value is an entry of a batch: a tensor, an array, or a list of numbers or strings."""
    first = value[0] if isinstance(value, list | tuple) and value else None
    is_array = isinstance(value, Tensor) or (hasattr(value, "shape") and hasattr(value, "dtype"))
    return is_array or isinstance(first, int | float | str | bytes)


def check_batched(phase: str, loader: Any) -> None:
    """Raise for data in place of a loader: they would give samples, keys or characters."""
    if isinstance(loader, Mapping | str | bytes):
        given = "characters" if isinstance(loader, str) else "bytes" if isinstance(loader, bytes) else "keys"
        raise ParamsError(
            f"the {phase} loader is a {type(loader).__name__}, which gives its {given} as batches; give a "
            "loader of batches: torch.utils.data.DataLoader(dataset, batch_size=32)"
        )
    if isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
        raise ParamsError(
            f"the {phase} loader is the dataset {type(loader).__name__}, which gives samples; give a loader "
            "of its batches: torch.utils.data.DataLoader(dataset, batch_size=32)"
        )
