"""The comparison of a run's processes at its start: a difference is refused by its name, before training."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import torch
from torch.utils.data import DataLoader

from argus_core.abstract_model import AbstractModel
from argus_core.callbacks.checkpoints import Checkpoint
from argus_core.callbacks.lr_schedule import LRSchedule
from argus_core.callbacks.state import AbstractEngine
from argus_core.data.order import loader_length
from argus_core.data.samplers import knows_of_processes
from argus_core.errors import ConflictError, ParamsError
from argus_core.parallel.ending import ending_together
from argus_core.registry.distributions import own_version
from argus_core.registry.registry import components
from argus_core.tensors.processes import gather, process_count

__all__ = ["agree_on_parts", "agree_on_seeds", "agree_on_start", "check_loaders"]

_LONGEST = 200  # characters of a value that a message shows


def agree_on_start(
    model: AbstractModel, loaders: Mapping[str, Iterable[Any]], seed: int, is_given: bool, run_id: str
) -> tuple[int, str]:
    """Return the seed and the identifier of the run: the first process's, once all have compared themselves.

    Args:
        model: to train.
        loaders: of each phase.
        seed: of this process.
        is_given: whether the caller has given the seed, which must then be equal.
        run_id: of this process.

    Raises:
        ConflictError: the processes differ.
    """
    facts = {**_facts(model, loaders), "seed": seed if is_given else None}
    everyones = gather({"facts": facts, "seed": str(seed), "run_id": run_id}, model.device)
    _compare([each["facts"] for each in everyones])
    return int(everyones[0]["seed"]), everyones[0]["run_id"]


def agree_on_parts(engine: AbstractEngine, lengths: Mapping[str, Any]) -> None:
    """Compare what all processes of a run need: its lengths, metrics, schedules and checkpoints.

    Args:
        engine: of training, with its callbacks.
        lengths: of the run, as the caller has given them.

    Raises:
        ConflictError: the processes differ.
    """
    facts: dict[str, Any] = {name: None if value is None else str(value) for name, value in lengths.items()}
    for what, kind in (("learning-rate schedules", LRSchedule), ("checkpoint callbacks", Checkpoint)):
        own = [each.name for each in engine.callbacks if isinstance(each, kind)]
        facts[f"the list of {what}"] = own
    facts["the list of metrics"] = [each.name for each in engine.metrics]
    _compare(gather(facts, engine.state.model.device))


def agree_on_seeds(model: AbstractModel, seeds: Mapping[str, int]) -> dict[str, int]:
    """Return the seeds of the first process: the generators of the others have other states after training.

    Args:
        model: to validate.
        seeds: of the validation sets, by phase.

    Raises:
        ConflictError: the processes validate on other sets.
    """
    with ending_together():
        everyones = gather(
            {"the list of validation sets": [*seeds], "seeds": [*map(str, seeds.values())]}, model.device
        )
        _compare([{name: value for name, value in each.items() if name != "seeds"} for each in everyones])
    return dict(zip(seeds, map(int, everyones[0]["seeds"]), strict=True))


def _compare(everyones: Sequence[Mapping[str, Any]]) -> None:
    """Raise `ConflictError` for the first difference from the first process."""
    first = everyones[0]
    for rank, other in enumerate(everyones):
        for name in {**first, **other}:
            ours, theirs = first.get(name), other.get(name)
            if ours != theirs:
                raise ConflictError(
                    f"{name} is {_shown(ours)} in process 0 and {_shown(theirs)} in process {rank}; start "
                    "all processes with the same packages, configuration, data and seed"
                )


def check_loaders(model: AbstractModel, loaders: Mapping[str, Iterable[Any]]) -> None:
    """Raise for a loader of which a process cannot read its slice.

    Raises:
        ParamsError: a batch has fewer samples than there are processes, or the loader has no indices.
    """
    count = process_count()
    for phase, loader in loaders.items():
        if not isinstance(loader, DataLoader):
            continue
        if knows_of_processes(loader):
            if model.parallel.sharded_already:
                continue
            raise ParamsError(
                f"the {phase} loader has a sampler that knows of the processes, and its batch is taken for "
                "the whole one, of which each process reads a slice; leave the sampler out, or set "
                "sharded_already in the params of parallel"
            )
        size = getattr(loader, "batch_size", None)
        if size is not None and size < count and not _is_stream(loader):
            raise ParamsError(
                f"batch_size of the {phase} loader is {size}, and {count} processes share each batch; give "
                "at least one sample to each, or start fewer processes"
            )


def _facts(model: AbstractModel, loaders: Mapping[str, Iterable[Any]]) -> dict[str, Any]:
    parts = [*filter(None, model.parts.values()), *model.step_parts]
    facts: dict[str, Any] = {
        "the version of argus-torch": own_version(),
        "the version of torch": str(torch.__version__),
        "the version of Python": platform.python_version(),
        "the set of installed components": _digest(
            sorted(
                f"{each.kind}/{each.name} {each.provider} {each.version}"
                for each in components()
                if each.provider
            )
        ),
        "the model's params": _digest(model.params),
        "the device": model.device.type,
        "loader batches to one update": model.window_size(),
    }
    for part in parts:
        if part.component is not None:
            version = f"{part.component.provider} {part.component.version}"
            facts[f"the provider of {part.label}"] = version
    for phase, loader in loaders.items():
        dataset = getattr(loader, "dataset", None)
        facts[f"the number of {phase} batches"] = loader_length(loader)
        facts[f"the number of {phase} samples"] = loader_length(dataset) if dataset is not None else None
    return facts


def _digest(value: Any) -> str:
    text = json.dumps(value, default=repr, sort_keys=True)
    return text if len(text) < _LONGEST else blake2b(text.encode(), digest_size=8).hexdigest()


def _shown(value: Any) -> str:
    return repr(value) if len(repr(value)) <= _LONGEST else f"{repr(value)[:_LONGEST]}..."


def _is_stream(loader: Any) -> bool:
    return isinstance(getattr(loader, "dataset", None), torch.utils.data.IterableDataset)
