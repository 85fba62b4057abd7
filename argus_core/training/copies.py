"""A dry run on copies, so that the model, its optimizer, metrics, callbacks and schedule stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from argus_core.errors import ParamsError
from argus_core.tensors.rng import Generators
from argus_core.training.dry_run import DryRun, written_paths
from argus_core.training.trial_folder import trial_folder

__all__ = ["rehearse"]

_COPIED = ("metrics", "callbacks", "val_callbacks", "lr_scheduler")


def rehearse(
    run: Callable[..., dict[str, float]],
    model: Any,
    loaders: Mapping[str, Any],
    options: Mapping[str, Any],
) -> dict[str, float]:
    """Make a dry run with copies of a model and its callbacks; return the metrics.

    Args:
        run: `fit`.
        model: trained as a copy.
        loaders: its arguments that give batches.
        options: its other arguments.

    Raises:
        ParamsError: a loader gives its batches only once, or something cannot be copied.
    """
    _check_readable_again(loaders)
    if model.parallel.is_sharded:
        raise ParamsError(
            f"a dry run in Python works on a copy of the model, and parallel {model.parallel.name!r} has it "
            "in shards, which cannot be copied; try it by argus train --dry-run, or with parallel='ddp'"
        )
    with trial_folder() as folder, _generators_restored(loaders):
        trial = DryRun(folder)
        placed = {name: trial.placed(options[name]) for name in ("callbacks", "val_callbacks")}
        model, copied = _copies(model, {**options, **placed}, trial)
        return run(model, **loaders, **copied, dry_run=trial)


def _copies(model: Any, options: Mapping[str, Any], trial: DryRun) -> tuple[Any, dict[str, Any]]:
    """Return copies of a model and of the options with state, callbacks writing into the trial's folder."""
    instances = [*_instances(options["callbacks"]), *_instances(options["val_callbacks"])]
    memo: dict[int, Any] = {}
    for callback in instances:
        for path in (getattr(callback, name, None) for name in written_paths(type(callback))):
            if isinstance(path, Path):
                memo[id(path)] = trial.place(path)  # wherever the callback keeps the same object
    parts = {"model": model, **{name: options[name] for name in _COPIED}}
    copied = {}  # with one memo, as a schedule refers to the optimizer of the model
    for name, part in parts.items():
        copied[name] = _copy(part, name, memo)
    for callback in [memo.get(id(each), each) for each in instances]:
        for name in written_paths(type(callback)):
            if isinstance(path := getattr(callback, name, None), str):
                setattr(callback, name, str(trial.place(path)))
    if isinstance(schedule := copied["lr_scheduler"], LRScheduler):
        _note_steps(schedule.optimizer)
    return copied.pop("model"), {**options, **copied}


def _note_steps(optimizer: Any) -> None:
    """Mark the steps of a copied optimizer as its schedule has marked the original's, which no copy keeps.

    torch warns of an optimizer without the mark.
    """

    def step(*args: Any, **kwargs: Any) -> Any:
        return type(optimizer).step(optimizer, *args, **kwargs)

    step._wrapped_by_lr_sched = optimizer._opt_called = True  # type: ignore[attr-defined]
    optimizer.step = step


def _copy(part: Any, where: str, memo: dict[int, Any]) -> Any:
    if isinstance(part, list):
        return [_copy(each, f"{where}[{index}]", memo) for index, each in enumerate(part)]
    try:
        return copy.deepcopy(part, memo)
    except Exception as error:  # of whatever a user's class keeps
        raise ParamsError(
            f"a dry run works on copies, and {where} ({type(part).__name__}) cannot be copied: "
            f"{type(error).__name__}: {error}; choose it by name, or give its class a __deepcopy__"
        ) from error


def _instances(callbacks: Any) -> list[Any]:
    if isinstance(callbacks, Mapping):
        return [each for own in callbacks.values() for each in _instances(own)]
    return [each for each in callbacks or () if not isinstance(each, str | tuple | list)]


def _check_readable_again(loaders: Mapping[str, Any]) -> None:
    values = loaders["val_loader"]
    validation = values.values() if isinstance(values, Mapping) else [values]
    for loader in (loaders["train_loader"], *validation):
        if hasattr(loader, "__next__"):
            raise ParamsError(
                f"a loader is a {type(loader).__name__}, which gives its batches once, and a dry run would "
                "take the first of them; give a list or a DataLoader"
            )


@contextmanager
def _generators_restored(loaders: Mapping[str, Any]) -> Iterator[None]:
    """Restore the generators of the process, and those of loaders, when the block ends."""
    values = loaders["val_loader"]
    found = [loaders["train_loader"], *(values.values() if isinstance(values, Mapping) else [values])]
    own = [each for loader in found if (each := getattr(loader, "generator", None)) is not None]
    kept, states = Generators(), [each.get_state() for each in own]
    try:
        yield
    finally:
        kept.restore()
        for generator, state in zip(own, states, strict=True):
            generator.set_state(state)
