"""The data loaders of a run, from the section ``[data]`` of its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch.utils.data import DataLoader, Dataset, Subset

from argus_core.config import Config
from argus_core.config.changes import with_params
from argus_core.config.split import PARTS
from argus_core.data.collation import build_collate
from argus_core.data.datasets import build_dataset, make_loader
from argus_core.data.description import check_names, describe_data
from argus_core.data.samplers import build_sampler
from argus_core.data.splits import split_indices
from argus_core.errors import BuildError, ConfigError
from argus_core.registry.file_params import Source, taken_from
from argus_core.tensors.device import resolve_devices

__all__ = ["Loader", "build_loaders", "first_batch"]

Loader = DataLoader[Any]

_SPLIT = "[data] split"


def build_loaders(config: Config) -> dict[str, Any]:
    """Build the loaders of the configured datasets by ``train``, ``val`` and ``test``.

    Of validation sets with names, ``val`` is a dict. Only training is shuffled, or has a sampler.
    """
    data = config.data
    keys = ("num_workers", "persistent_workers", "prefetch_factor")
    shared = {key: data[key] for key in keys if key in data}
    shared |= {"seed": config.fit["seed"], "pin_memory": _is_pinned(config)}
    loaders: dict[str, Any] = {}
    for part, dataset in _datasets(config).items():
        options: dict[str, Any] = {"batch_size": data["val_batch_size"]}
        if part == "train":
            options = {key: data[key] for key in ("batch_size", "shuffle", "drop_last")}
            options["sampler"] = _sampler(config, dataset)
        options["collate"] = _collate(config, part)
        loaders[part] = (
            {name: make_loader(each, **options, **shared) for name, each in dataset.items()}
            if isinstance(dataset, dict)
            else make_loader(dataset, **options, **shared)
        )
    if {"train", "test"} <= loaders.keys():  # the run itself compares its validation data
        check_names("test", loaders["test"], describe_data({"train": loaders["train"]}))
    return loaders


def first_batch(config: Config) -> Any:
    """Return a batch of one sample of the configured training data."""
    with taken_from(config.source("data", "train")):
        dataset = build_dataset(config.data["train"], "[data] train")
    return next(iter(make_loader(dataset, 1, collate=_collate(config, "train"))))


def _sampler(config: Config, dataset: Dataset[Any]) -> Any:
    if "sampler" not in config.data:
        return None
    with taken_from(config.source("data", "sampler")):
        return build_sampler(config.data["sampler"], dataset, "[data] sampler")


def _collate(config: Config, part: str) -> Any:
    key = "val_collate" if part != "train" and "val_collate" in config.data else "collate"
    if key not in config.data:
        return None
    spec = config.data[key]
    with taken_from(config.source("data", key)):
        collate = build_collate(spec, f"[data] {key}")
    if part != "train" and getattr(collate, "training_only", False):
        raise ConfigError(
            f"[data] {key} is {with_params(spec)[0]!r}, which is for training only, and there is {part}; "
            'choose val_collate too, such as val_collate = "default"'
        )
    return collate


def _is_pinned(config: Config) -> bool:
    pin_memory: Any = config.data["pin_memory"]
    if pin_memory == "auto":
        return resolve_devices(config.model["device"])[0].type == "cuda"
    return bool(pin_memory)


def _datasets(config: Config) -> dict[str, Any]:
    """Build the datasets, of validation sets with names a dict; those that a split makes come last."""
    datasets: dict[str, Any] = {}
    for part in ("train", *PARTS):
        if part not in config.data:
            continue
        chosen, where = config.data[part], f"[data] {part}"
        with taken_from(config.source("data", part)):
            datasets[part] = (
                {name: build_dataset(spec, f"{where}.{name}") for name, spec in chosen.items()}
                if isinstance(chosen, dict)
                else build_dataset(chosen, where)
            )
    return _split(config, datasets) if "split" in config.data else datasets


def _split(config: Config, datasets: dict[str, Any]) -> dict[str, Any]:
    split, whole = config.data["split"], datasets["train"]
    shares = {part: split[part] for part in PARTS if part in split}
    indices = split_indices(whole, shares, split["seed"], split["stratify"], _SPLIT)
    other = _with_val_params(config, split["val_params"], whole) if "val_params" in split else whole
    made = {part: Subset(other, indices[part]) for part in shares}
    return {**datasets, "train": Subset(whole, indices["train"]), **made}


def _with_val_params(config: Config, params: Mapping[str, Any], whole: Any) -> Dataset[Any]:
    """Build the training dataset once more, with parameters that differ for validation."""
    name, own = with_params(config.data["train"])
    with taken_from(_source(config, own, params)):
        other: Any = build_dataset((name, {**own, **params}), f"{_SPLIT}.val_params")
    if len(other) != len(whole):
        raise BuildError(
            f"{_SPLIT}.val_params makes train {len(other)} samples long, and it has {len(whole)}; give "
            "parameters that leave the samples and their order as they are, such as a transform"
        )
    found: Dataset[Any] = other
    return found


def _source(config: Config, own: Mapping[str, Any], params: Mapping[str, Any]) -> Source | None:
    """Return the source of the parameters of train, and of those in ``val_params`` that replace them."""
    source = config.source("data", "train")
    if source is None:
        return None
    given = {key for _, key in source.given if key is not None}
    given |= set(own) if ("dataset", None) in source.given else set()
    given -= set(params)
    if any(path[:2] == ("data", "split") and path[2:3] in ((), ("val_params",)) for path in config.given):
        given |= set(params)
    return replace(source, given=frozenset(("dataset", key) for key in given))
