"""The loaders of a run are those that ``[data]`` describes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Subset, TensorDataset, WeightedRandomSampler, default_collate

import argus_core
from argus_core.authors import FileParam
from argus_core.config import Config, read_config
from argus_core.errors import BuildError, ConfigError
from argus_core.runs.loaders import build_loaders
from argus_core.runs.run import resume, train

FILE = """
[model]
nn_module = ["linear", { in_features = 2, out_features = 2 }]
loss = "CrossEntropyLoss"
optimizer = ["SGD", { lr = 0.1 }]
device = "cpu"
[fit]
seed = 0
[data]
train = "points"
"""


def points(shift: float = 0.0, samples: int = 40, tool: Any = None) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    targets = (torch.arange(samples) % 4 == 0).long()
    return TensorDataset(torch.randn(samples, 2, generator=generator) + shift, targets)


points.file_params = {"tool": FileParam("runs the program that it names")}  # type: ignore[attr-defined]


class Doubled:
    def __call__(self, samples: Any) -> Any:
        return default_collate([*samples, *samples])


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("dataset", "points", points)
        argus_core.register("nn_module", "linear", nn.Linear)
        argus_core.register("collate", "doubled", Doubled)
        yield


def config(text: str = "", *changes: str) -> Config:
    path = Path("points.toml")
    path.write_text(FILE + text)
    return read_config(path, changes)


def test_a_split_makes_parts_of_the_training_data() -> None:
    loaders: Any = build_loaders(config("split = { val = 0.25, test = 4, stratify = true }"))
    assert list(loaders) == ["train", "val", "test"]
    assert {name: len(loader.dataset) for name, loader in loaders.items()} == {
        "train": 26,
        "val": 10,
        "test": 4,
    }
    assert sum(target.sum() for _, target in loaders["val"]) in (2, 3)
    everything = torch.cat([input for loader in loaders.values() for input, _ in loader])
    assert torch.equal(everything.sort(0).values, points().tensors[0].sort(0).values)


def test_a_split_does_not_depend_on_the_seed_of_the_run() -> None:
    first, second, third = (
        build_loaders(config("split = { val = 0.25 }", *changes))["val"].dataset.indices  # type: ignore[attr-defined]
        for changes in ((), ("fit.seed=7",), ("split.seed=7",))
    )
    assert first == second != third


def test_validation_data_of_a_split_may_have_other_parameters() -> None:
    loaders: Any = build_loaders(config("split = { val = 0.25, val_params = { shift = 100.0 } }"))
    assert all(input.min() > 50 for input, _ in loaders["val"])
    assert all(input.max() < 50 for input, _ in loaders["train"])


def test_parameters_of_validation_must_leave_the_samples() -> None:
    with pytest.raises(BuildError, match="split.val_params makes train 41 samples long, and it has 40; give"):
        build_loaders(config("split = { val = 0.25, val_params = { samples = 41 } }"))


def test_parameters_of_validation_are_the_files_unless_the_caller_gives_them() -> None:
    text = "split = { val = 0.25, val_params = { tool = 'rm' } }"
    with pytest.raises(ConfigError, match="tool of dataset 'points' is 'rm'; a configuration must"):
        build_loaders(config(text))
    with pytest.raises(ConfigError, match="tool of dataset 'points' is 'rm'"):
        build_loaders(config(text, "data.train.tool=ls"))
    with pytest.raises(ConfigError, match="tool of dataset 'points' is 'rm'"):
        build_loaders(config(text, "data.train=points", "split.val=0.5"))
    build_loaders(config(text, "split.val_params.tool=ls"))
    build_loaders(config("split = { val = 0.25 }", "data.train.tool=ls", "split.val_params.shift=1.0"))


def test_sampler_and_collate_are_of_training_and_of_all() -> None:
    loaders: Any = build_loaders(
        config(
            'split = { val = 0.25 }\nsampler = ["class_balanced", { num_samples = 8 }]\ncollate = "doubled"'
        )
    )
    assert isinstance(loaders["train"].sampler, WeightedRandomSampler)
    assert sum(len(input) for input, _ in loaders["train"]) == 16
    assert sum(len(input) for input, _ in loaders["val"]) == 20
    assert isinstance(loaders["train"].dataset, Subset)


def test_validation_may_be_collated_otherwise() -> None:
    loaders: Any = build_loaders(config('split = { val = 10 }\ncollate = "doubled"\nval_collate = "default"'))
    assert [sum(len(input) for input, _ in loaders[part]) for part in ("train", "val")] == [60, 10]


def test_a_function_for_training_only_is_not_used_for_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Doubled, "training_only", True, raising=False)
    build_loaders(config('collate = "doubled"'))
    build_loaders(config('split.val = 10\ncollate = "doubled"\nval_collate = "default"'))
    message = r"\[data\] collate is 'doubled', which is for training only, and there is val; choose val"
    with pytest.raises(ConfigError, match=message):
        build_loaders(config('split.val = 10\ncollate = "doubled"'))


def test_options_of_workers_are_those_of_the_loader() -> None:
    loader = build_loaders(config("num_workers=2\npersistent_workers=false\nprefetch_factor=5"))["train"]
    assert (loader.num_workers, loader.persistent_workers, loader.prefetch_factor) == (2, False, 5)
    usual = build_loaders(config("num_workers = 2"))["train"]
    assert (usual.persistent_workers, usual.prefetch_factor) == (True, 2)


def test_memory_is_not_pinned_for_the_cpu() -> None:
    assert not build_loaders(config())["train"].pin_memory


@pytest.mark.gpu
def test_memory_is_pinned_for_cuda() -> None:
    assert build_loaders(config("", "model.device=cuda"))["train"].pin_memory


def test_a_run_is_validated_and_tested_on_its_split_and_resumes_on_it(tmp_path: Path) -> None:
    text = 'split = { val = 0.25, test = 0.1, stratify = true }\nsampler = "class_balanced"'
    done = train(config(text, "num_epochs=3", "run_dir=whole"))
    assert {"val_loss", "train_loss"} <= done.metrics.keys()
    assert list(done.test_metrics) == ["test_loss"]
    train(config(text, "num_epochs=1", "run_dir=part"))
    resumed = resume(tmp_path / "part", ["num_epochs=3"])
    assert (resumed.metrics, resumed.test_metrics) == (done.metrics, done.test_metrics)
