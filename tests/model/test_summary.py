"""The summary of a model: its modules, their shapes, their size and their operations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from small_runs import CONFIG, small_registry
from torch import nn

import argus_core
from argus_core import BuildError, Model, ParamsError
from argus_core.cli import main


class Net(nn.Module):
    def __init__(self, frozen: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.features.requires_grad_(not frozen)
        self.head = nn.Linear(4, 2)
        self.unused = nn.Linear(3, 3)

    def forward(self, image: torch.Tensor) -> dict[str, Any]:
        features = self.features(image).mean((2, 3))
        return {"scores": self.head(features), "features": (features,)}


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    with small_registry():
        argus_core.register("nn_module", "shapes", Net)
        yield


def model(optimizer: Any = "AdamW", **params: Any) -> Model:
    return Model({
        "nn_module": ("shapes", params),
        "loss": "CrossEntropyLoss",
        "optimizer": optimizer,
        "device": "cpu",
    })  # fmt: skip


def test_each_module_has_its_shape_size_and_operations_of_one_sample() -> None:
    summary = model().summary(torch.zeros(8, 1, 5, 5))
    found = {each.name: (each.kind, each.output, each.parameters, each.flops) for each in summary.modules}
    convolution = 2 * 9 * 4 * 9
    assert found == {
        "": ("Net", "scores: 8x2, features: 8x4", 66, convolution + 16),
        "features": ("Sequential", "8x4x3x3", 44, convolution),
        "features.0": ("Conv2d", "8x4x3x3", 36, convolution),
        "features.1": ("BatchNorm2d", "8x4x3x3", 8, 0),
        "features.2": ("Dropout", "8x4x3x3", 0, 0),
        "head": ("Linear", "8x2", 10, 16),
        "unused": ("Linear", None, 12, 0),
    }


def test_a_summary_changes_neither_modes_statistics_nor_random_numbers() -> None:
    built = model()
    built.nn_module.train()
    built.nn_module.features[1].eval()
    before = {name: value.clone() for name, value in built.nn_module.state_dict().items()}
    state = torch.get_rng_state()
    built.summary(torch.randn(2, 1, 5, 5, generator=torch.Generator()))
    assert [module.training for module in built.nn_module.features] == [True, False, True]
    assert built.nn_module.training
    assert all(torch.equal(value, before[name]) for name, value in built.nn_module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks for module in built.nn_module.modules())


@pytest.mark.parametrize("name", ["SGD", "AdamW", "Adagrad", "RMSprop", ("SGD", {"momentum": 0.9})])
def test_the_optimizers_state_is_known_before_its_first_update(name: Any) -> None:
    built = model(name)
    expected = built.summary().optimizer_state
    built.nn_module.features[2].eval()
    for parameter in built.nn_module.parameters():
        parameter.grad = torch.ones_like(parameter)
    built.optimizer.step()
    assert built.summary().optimizer_state == expected


def test_memory_counts_each_tensor_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(4, 4, bias=False)
            self.two = nn.Linear(4, 4, bias=False)
            self.two.weight = self.one.weight

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.two(self.one(input))
            return output

    argus_core.register("nn_module", "tied", Tied)
    summary = Model({"nn_module": "tied", "loss": "MSELoss", "optimizer": "SGD", "device": "cpu"}).summary()
    assert (summary.modules[0].parameters, summary.weights, summary.gradients) == (16, 64, 64)


def test_the_table_shows_what_is_frozen_and_how_deep_it_goes() -> None:
    table = model(frozen=True).summary().table(depth=1)
    rows = {line.split()[0]: line.split() for line in table.splitlines() if line}
    assert rows["features"][-3] == "no"
    assert rows["head"][-3] == "yes"
    assert rows["Net"][-3] == "33.3%"
    assert "3 modules inside these are not shown" in table


def test_a_lazy_network_is_told_to_see_an_input_first() -> None:
    argus_core.register("nn_module", "lazy", lambda: nn.LazyLinear(3))
    built = Model({"nn_module": "lazy", "device": "cpu"})
    assert "not known yet" in str(built.summary())
    with pytest.raises(ParamsError, match=r"lazy modules.*call model.predict\(input\) once"):
        built.summary(torch.zeros(1, 4))
    built.predict(torch.zeros(1, 4))
    assert built.summary(torch.zeros(1, 4)).modules[0].flops == 24


def test_an_input_that_does_not_fit_is_one_sentence() -> None:
    with pytest.raises(BuildError, match="the network failed on an input of 2x3x5x5: .*give a batch as"):
        model().summary(torch.zeros(2, 3, 5, 5))


def argus(*args: str) -> str:
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_takes_a_configuration_and_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(CONFIG)
    table = argus("summary", "small.toml")
    assert "hidden (Linear)" in table
    assert "1x3" in table
    argus("train", "small.toml")
    best = "run/checkpoints/best.safetensors"
    modules = json.loads(argus("summary", best, "--input-shape", "2,4", "--json"))["modules"]
    assert [(each["name"], each["output"]) for each in modules] == [
        ("", "2x3"), ("hidden", "2x8"), ("out", "2x3"),
    ]  # fmt: skip


def test_a_wrong_shape_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(CONFIG)
    result = CliRunner().invoke(main, ["summary", "small.toml", "--input-shape", "2,-4"])
    assert result.exit_code == 1
    assert "--input-shape is '2,-4'; give positive integers" in result.output


def test_parameters_that_unfreeze_holds_have_no_optimizer_state_yet() -> None:
    params = {"nn_module": "shapes", "loss": "CrossEntropyLoss", "optimizer": "AdamW", "device": "cpu"}
    held = Model({**params, "step": ("unfreeze", {"match": ["features.*", "unused.*"], "after": "1up"})})
    frozen = Model({**params, "freeze": ["features.*", "unused.*"]})
    expected = frozen.summary().optimizer_state
    assert expected
    assert held.summary().optimizer_state == expected
