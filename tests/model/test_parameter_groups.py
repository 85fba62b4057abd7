"""The optimizer's options groups, no_decay and layer_decay, against groups that are written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import argus_core
from argus_core import BuildError, Model, ParamsError, load_model
from argus_core.callbacks import Checkpoint
from argus_core.registry.registry import isolated_registry

BATCHES = [(torch.randn(8, 3, 8, 8), torch.randint(2, (8,))) for _ in range(4)]


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.stem = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.stages = nn.ModuleList([nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)) for _ in range(2)])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.norm(self.stem(images * self.scale))
        for stage in self.stages:
            features = stage(features)
        return features.mean((2, 3))


class Classifier(nn.Module):
    def __init__(self, frozen: bool = False) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Linear(4, 2)
        self.backbone.requires_grad_(not frozen)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.backbone(images))
        return scores


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    with isolated_registry(builtins=True):
        argus_core.register("nn_module", "classifier", Classifier)
        yield


def params(optimizer: str = "AdamW", frozen: bool = False, **options: Any) -> dict[str, Any]:
    return {
        "nn_module": ("classifier", {"frozen": frozen}),
        "loss": "CrossEntropyLoss",
        "optimizer": (optimizer, options),
        "device": "cpu",
    }


def groups_of(model: Model) -> dict[str, dict[str, Any]]:
    """Return the groups by name, with the names of their parameters."""
    names = {id(parameter): name for name, parameter in model.nn_module.named_parameters()}
    return {
        group["name"]: {**group, "params": [names[id(each)] for each in group["params"]]}
        for group in model.optimizer.param_groups
    }


def test_patterns_choose_groups_and_the_rest_has_the_optimizers_options() -> None:
    groups = [{"match": "backbone.*", "lr": 1e-4}, {"match": ["*.bias", "*norm*"], "weight_decay": 0.0}]
    model = Model(params(lr=1e-3, weight_decay=0.05, groups=groups))
    options = {
        name: (group["lr"], group["weight_decay"], len(group["params"]))
        for name, group in groups_of(model).items()
    }
    assert options == {
        "backbone.*": (1e-4, 0.05, 6),
        "backbone.*, *.bias, *norm*": (1e-4, 0.0, 7),
        "others": (1e-3, 0.05, 1),
        "*.bias, *norm*": (1e-3, 0.0, 1),
    }


def test_training_with_groups_equals_torchs_own_groups() -> None:
    torch.manual_seed(0)
    model = Model(params("SGD", lr=0.1, groups=[{"match": "head.*", "lr": 1.0, "momentum": 0.9}]))
    torch.manual_seed(0)
    network = Classifier()
    groups: list[dict[str, Any]] = [
        {"params": network.backbone.parameters()},
        {"params": network.head.parameters(), "lr": 1.0, "momentum": 0.9},
    ]
    by_hand = torch.optim.SGD(groups, lr=0.1)
    for input, target in BATCHES:
        by_hand.zero_grad()
        nn.functional.cross_entropy(network(input), target).backward()  # type: ignore[no-untyped-call]
        by_hand.step()
    model.fit(BATCHES)
    for name, value in model.nn_module.state_dict().items():
        assert torch.equal(value, network.state_dict()[name]), name


def test_no_decay_spares_biases_norms_and_other_vectors() -> None:
    groups = groups_of(Model(params(lr=1e-3, weight_decay=0.1, no_decay="norm_and_bias")))
    assert groups["others"]["params"] == [
        "backbone.stem.weight", "backbone.stages.0.0.weight", "backbone.stages.1.0.weight", "head.weight",
    ]  # fmt: skip
    assert groups["no decay"]["weight_decay"] == 0.0
    assert len(groups["no decay"]["params"]) == 11


def test_an_explicit_decay_overrides_no_decay() -> None:
    entry = {"match": "head.bias", "weight_decay": 0.2}
    model = Model(params(lr=1e-3, weight_decay=0.1, no_decay="norm_and_bias", groups=[entry]))
    assert groups_of(model)["head.bias"]["weight_decay"] == 0.2


def test_layer_decay_lowers_the_rate_towards_the_input() -> None:
    groups = groups_of(Model(params(lr=1.0, layer_decay=0.5)))
    assert {name: group["lr"] for name, group in groups.items()} == {
        "layer 0": 0.125, "layer 1": 0.25, "layer 2": 0.5, "layer 3": 1.0,
    }  # fmt: skip
    assert groups["layer 0"]["params"] == [
        "backbone.scale", "backbone.stem.weight", "backbone.stem.bias", "backbone.norm.weight",
        "backbone.norm.bias",
    ]  # fmt: skip
    assert groups["layer 3"]["params"] == ["head.weight", "head.bias"]


def test_layer_decay_multiplies_a_groups_rate_and_the_default() -> None:
    entry = {"match": "head.*", "lr": 10.0, "name": "head"}
    assert groups_of(Model(params(lr=1.0, layer_decay=0.5, groups=[entry])))["head, layer 3"]["lr"] == 10.0
    assert groups_of(Model(params("Adam", layer_decay=0.5)))["layer 2"]["lr"] == 0.0005


def test_a_transformers_blocks_are_its_layers() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Parameter(torch.zeros(1, 1, 8))
            self.embedding = nn.Linear(3, 8)
            layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=8, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 3, nn.LayerNorm(8))
            self.head = nn.Linear(8, 2)

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.head(self.encoder(self.embedding(input) + self.tokens).mean(1))
            return scores

    argus_core.register("nn_module", "encoder", Encoder)
    model = Model({**params(lr=1.0, layer_decay=0.5), "nn_module": "encoder"})
    groups = groups_of(model)
    assert [group["lr"] for group in groups.values()] == [0.0625, 0.125, 0.25, 0.5, 1.0]
    assert groups["layer 0"]["params"] == ["tokens", "embedding.weight", "embedding.bias"]
    assert groups["layer 3"]["params"][-2:] == ["encoder.norm.weight", "encoder.norm.bias"]


def test_the_losss_own_parameters_have_names_for_patterns() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.temperature = nn.Parameter(torch.ones(()))

        def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return nn.functional.cross_entropy(prediction / self.temperature, target)

    argus_core.register("loss", "scaled", Scaled)
    groups = [{"match": "loss.*", "lr": 0.5}]
    model = Model({**params(lr=0.1, groups=groups, layer_decay=1.0), "loss": "scaled"})
    assert [group["lr"] for group in model.optimizer.param_groups] == [0.1, 0.1, 0.1, 0.1, 0.5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": {"match": "*"}}, r"groups is \{'match': '\*'\}; give a list such as"),
        ({"groups": [{"lr": 1.0}]}, r"groups\[0\] .* give match"),
        ({"groups": [{"match": "head.*"}]}, r"groups\[0\] .* and the group's options"),
        ({"groups": [{"match": [], "lr": 1.0}]}, r"groups\[0\] .* give match"),
        ({"groups": [{"match": "*", "params": [], "lr": 1.0}]}, r"groups\[0\] .* give match"),
        ({"groups": [{"match": "*", "lr": 1.0, "name": 3}]}, r"groups\[0\] of the optimizer is named 3"),
        ({"groups": [{"match": "*x*"}] * 2}, "give match"),
        ({"groups": [{"match": ["*"] * 60, "lr": 1.0}] * 2}, "over 100 patterns"),
        (
            {"groups": [{"match": "backbon.*", "lr": 1.0}]},
            r"'backbon\.\*' matches no parameter; .*; did you mean 'backbone\.\*'",
        ),
        (
            {"groups": [{"match": "head.*", "lr": 1.0}, {"match": "*.weight", "lr": 2.0}]},
            r"groups\[0\] and groups\[1\] .* both match 'head\.weight', with lr=1\.0 and lr=2\.0",
        ),
        ({"groups": [{"match": "*", "lrr": 1.0}]}, r"has no parameter 'lrr'; did you mean 'lr'"),
        ({"groups": [{"match": "*", "lr": "high"}]}, "lr is 'high', a string; give a number"),
        ({"groups": [{"match": "*", "lr": 1.0, 5: 1.0}]}, r"groups\[0\] .* give match"),
        (
            {"groups": [{"match": "*", "betas": torch.ones(2)}, {"match": "h*", "betas": torch.ones(2)}]},
            r"groups\[0\] and groups\[1\] .* both match 'head\.weight'",
        ),
        ({"lr": 10**400, "layer_decay": 0.5}, "layer_decay multiplies the optimizer's lr, which is"),
        ({"no_decay": True}, "no_decay is True; give 'norm_and_bias'"),
        ({"layer_decay": 0}, "layer_decay is 0; give a factor"),
        ({"layer_decay": True}, "layer_decay is True; give a factor"),
        ({"layer_decay": float("nan")}, "layer_decay is nan; give a factor"),
        ({"no_decay": "norm_and_bias", "frozen": True, "groups": [{"match": "backbone.*", "lr": 1.0}]},
         "matches only parameters that do not require grad"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        Model(params(**options))


def test_what_the_optimizer_refuses_is_told() -> None:
    groups = [{"match": "head.*", "lr": 0.1}]
    with pytest.raises(BuildError, match="LBFGS doesn't support per-parameter options"):
        Model(params("LBFGS", groups=groups))
    with pytest.raises(BuildError, match="Invalid learning rate"):
        Model(params("SGD", groups=[{"match": "head.*", "lr": -0.1}]))


def test_an_optimizer_with_a_parameter_of_that_name_gets_it() -> None:
    class Grouped(torch.optim.SGD):
        def __init__(self, params: Any, lr: float = 0.1, layer_decay: float = 1.0) -> None:
            super().__init__(params, lr=lr)
            self.layer_decay = layer_decay

    argus_core.register("optimizer", "grouped", Grouped)
    optimizer = Model(params("grouped", layer_decay=0.5)).optimizer
    assert optimizer.layer_decay == 0.5
    assert len(optimizer.param_groups) == 1


OPTIONS: dict[str, Any] = {
    "lr": 0.01,
    "weight_decay": 0.1,
    "no_decay": "norm_and_bias",
    "layer_decay": 0.5,
    "groups": [{"match": "head.*", "lr": 0.1, "name": "head"}],
}


def test_a_resumed_run_with_groups_equals_one_without_a_stop(tmp_path: Path) -> None:
    def run(**options: Any) -> Model:
        torch.manual_seed(0)
        model = Model(params(**OPTIONS))
        every = Checkpoint(tmp_path, file_format="{epoch}.safetensors", optimizer_state=True)
        schedule = ("StepLR", {"step_size": 1, "gamma": 0.5})
        model.fit(BATCHES, num_epochs=3, callbacks=[every], lr_scheduler=schedule, seed=0, **options)
        return model

    whole = run()
    resumed = run(resume=tmp_path / "0.safetensors")
    for name, value in whole.nn_module.state_dict().items():
        assert torch.equal(value, resumed.nn_module.state_dict()[name]), name
    assert whole.get_lr() == resumed.get_lr()


def test_a_loaded_model_has_its_groups_and_takes_other_rates(tmp_path: Path) -> None:
    model = Model(params(**OPTIONS))
    model.fit(BATCHES)
    model.save(tmp_path / "model.safetensors", optimizer_state=True)
    loaded = load_model(tmp_path / "model.safetensors", device="cpu")
    assert groups_of(loaded).keys() == groups_of(model).keys()
    assert loaded.get_lr() == model.get_lr()
    lower = load_model(tmp_path / "model.safetensors", device="cpu", optimizer={"lr": 0.001})
    rates = {name: group["lr"] for name, group in groups_of(lower).items()}
    assert rates["head, layer 3"] == 0.1
    assert rates["layer 2"] == 0.0005
    state = next(iter(lower.optimizer.state.values()))
    assert state["step"] == len(BATCHES)


def test_explain_and_the_epochs_line_show_each_group(capsys: pytest.CaptureFixture[str]) -> None:
    model = Model(params("SGD", lr=0.1, groups=[{"match": "backbone.*", "lr": 0.01}]))
    text = model.explain()
    assert "parameter group 'backbone.*': 177 values, lr 0.01" in text
    assert "parameter group 'others': 10 values, lr 0.1" in text
    model.fit(BATCHES, callbacks=["progress"])
    assert "lr 0.01 (backbone.*) 0.1 (others)" in capsys.readouterr().out
