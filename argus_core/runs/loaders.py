"""The data loaders of a configuration."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader

from argus_core.config import Config
from argus_core.data.datasets import build_dataset, make_loader
from argus_core.registry.file_params import taken_from

__all__ = ["Loader", "build_loaders", "first_batch"]

Loader = DataLoader[Any]


def build_loaders(config: Config) -> dict[str, Any]:
    """Build the loader of each split; of validation sets with names, a dict. Only training is shuffled."""
    data = config.data
    shared = {key: data[key] for key in ("num_workers", "pin_memory")} | {"seed": config.fit["seed"]}

    def build(spec: Any, where: str, **options: Any) -> Loader:
        return make_loader(build_dataset(spec, f"[data] {where}"), **options, **shared)

    loaders: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        if split not in data:
            continue
        options = {"batch_size": data["val_batch_size"]}
        if split == "train":
            options = {key: data[key] for key in ("batch_size", "shuffle", "drop_last")}
        with taken_from(config.source("data", split)):
            sets = data[split]
            loaders[split] = (
                {name: build(spec, f"{split}.{name}", **options) for name, spec in sets.items()}
                if isinstance(sets, dict)
                else build(sets, split, **options)
            )
    return loaders


def first_batch(config: Config) -> Any:
    """Return a batch of one sample of the configured training data."""
    with taken_from(config.source("data", "train")):
        dataset = build_dataset(config.data["train"], "[data] train")
    return next(iter(make_loader(dataset, 1)))
