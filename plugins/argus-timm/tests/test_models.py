from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from argus_core import BuildError, Model, ParamsError, load_model

# timm's own networks for tests: one of each large family, small.
NETWORKS = [
    "test_byobnet",
    "test_convnext",
    "test_efficientnet",
    "test_maxvit",
    "test_nfnet",
    "test_resnet",
    "test_vit",
    "test_vit_relpos",
]
SMALL = "test_resnet"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Keep weights of the small network in a file, as those that were fetched are."""
    torch.manual_seed(1)
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model(SMALL).state_dict(), path)
    return path


def params(model_name: str = SMALL, **more: Any) -> dict[str, Any]:
    return {
        "nn_module": ("timm", {"model_name": model_name, **more}),
        "loss": "CrossEntropyLoss",
        "optimizer": ("SGD", {"lr": 0.01}),
        "device": "cpu",
    }


def state_of(model: Model) -> dict[str, Tensor]:
    state: dict[str, Tensor] = model.nn_module.state_dict()
    return state


def same(one: Model, other: Model) -> bool:
    ours, theirs = state_of(one), state_of(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_trained_saved_and_loaded(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    size = timm.get_pretrained_cfg(name).input_size[-1]
    model = Model(params(name, num_classes=3, in_chans=1))
    batch = torch.rand(2, 1, size, size), torch.tensor([0, 2])
    before = {key: value.clone() for key, value in state_of(model).items()}
    assert model.train_step(batch)["loss"] > 0
    assert not all(torch.equal(before[key], value) for key, value in state_of(model).items())
    model.save(tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "a.safetensors")
    assert same(loaded, model)
    assert torch.equal(loaded.predict(batch[0]), model.predict(batch[0]))


def test_pretrained_weights_are_taken_for_training(weights: Path, attempts: list[Any]) -> None:
    model = Model(params(pretrained=True, pretrained_cfg_overlay={"file": str(weights)}))
    expected = torch.load(weights, weights_only=True)
    assert all(torch.equal(value, expected[name]) for name, value in state_of(model).items())
    assert attempts == []


def test_pretrained_weights_for_other_classes_leave_the_last_layer_as_it_is(weights: Path) -> None:
    overlay = {"file": str(weights)}
    model = Model(params(pretrained=True, num_classes=7, pretrained_cfg_overlay=overlay))
    expected = torch.load(weights, weights_only=True)
    found = state_of(model)
    assert found["fc.weight"].shape[0] == 7
    assert all(torch.equal(found[name], expected[name]) for name in found if not name.startswith("fc."))


def test_a_pretrained_model_is_loaded_with_the_network_cut_and_the_weights_gone(
    weights: Path, attempts: list[Any], tmp_path: Path
) -> None:
    model = Model(params(pretrained=True, num_classes=7, pretrained_cfg_overlay={"file": str(weights)}))
    model.save(tmp_path / "a.safetensors")
    weights.unlink()
    assert same(load_model(tmp_path / "a.safetensors"), model)
    changed = load_model(tmp_path / "a.safetensors", change_state_dict_func=lambda *states: states)
    assert same(changed, model)
    assert attempts == []


def test_a_foreign_file_cannot_name_a_place_of_weights(attempts: list[Any], tmp_path: Path) -> None:
    overlay = {
        "file": "/etc/passwd",
        "url": "https://weights.invalid/x",
        "hf_hub_id": "x/y",
        "custom_load": True,
    }
    place = {"pretrained": True, "cache_dir": str(tmp_path / "cache")}
    model = Model(params())
    model.params["nn_module"][1].update(place, pretrained_cfg_overlay={**overlay, "classifier": "kept"})
    model.save(tmp_path / "a.safetensors")
    known = load_model(tmp_path / "a.safetensors").nn_module.pretrained_cfg
    assert {key: known.get(key) for key in overlay}.items().isdisjoint(overlay.items())
    assert known["classifier"] == "kept"
    assert not (tmp_path / "cache").exists()
    assert attempts == []


def test_a_foreign_file_cannot_ask_for_a_fetch(attempts: list[Any], tmp_path: Path) -> None:
    model = Model(params())
    model.params["nn_module"][1]["pretrained"] = True
    model.save(tmp_path / "a.safetensors")
    load_model(tmp_path / "a.safetensors")
    model.params["nn_module"][1]["model_name"] = "hf-hub:somebody/something"
    model.save(tmp_path / "b.safetensors")
    with pytest.raises(ParamsError, match="'hf-hub:somebody/something', which timm would download or read"):
        load_model(tmp_path / "b.safetensors")
    assert attempts == []


def test_weights_that_cannot_be_fetched_are_told(attempts: list[Any]) -> None:
    overlay = {"hf_hub_id": None, "url": "https://weights.invalid/test_resnet.pth"}
    with pytest.raises(
        BuildError, match="cannot load pretrained weights for 'test_resnet': .*the network is cut"
    ):
        Model(params(pretrained=True, pretrained_cfg_overlay=overlay))
    assert attempts


def test_initial_values_that_a_file_overwrites_are_not_drawn(tmp_path: Path) -> None:
    Model(params()).save(tmp_path / "a.safetensors")
    before = torch.get_rng_state()
    load_model(tmp_path / "a.safetensors")
    assert torch.equal(before, torch.get_rng_state())


def test_a_name_may_say_which_weights() -> None:
    assert isinstance(Model(params("test_resnet.r160_in1k")).nn_module, nn.Module)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model_name": "resnet18x"}, "finds no network 'resnet18x' in timm; did you mean 'resnet18' or"),
        ({"model_name": "zzzzzz"}, "finds no network 'zzzzzz' in timm; timm.list_models() lists them"),
        (
            {"model_name": "test_resnet.in1k"},
            "finds no weights 'in1k' of 'test_resnet' in timm; did",
        ),
        ({"model_name": "local-dir:/etc"}, "which timm would download or read; give a name"),
        ({"model_name": "timm/resnet18"}, "which timm would download or read; give a name"),
        ({"model_name": 18}, "nn_module 'timm': model_name is 18, a number; give a string"),
        ({"pretrained": "false"}, "nn_module 'timm': pretrained is 'false', a string; give true or false"),
        (
            {"num_clases": 3},
            "with model_name='test_resnet' does not take 'num_clases'; did you mean 'nu",
        ),
        ({"zzz": 3}, "with model_name='test_resnet' does not take 'zzz'; it takes aa_layer"),
        ({"checkpoint_path": "x.pth"}, "does not take checkpoint_path; use pretrained_cfg_overlay"),
        ({"pretrained_cfg": {"file": "x.pth"}}, "does not take pretrained_cfg; use pretrained_cfg_overlay"),
    ],
)
def test_parameters_that_are_wrong_are_told_in_a_sentence(
    given: dict[str, Any], message: str, attempts: list[Any]
) -> None:
    with pytest.raises(ParamsError) as error:
        Model(params(**{"model_name": SMALL, **given}))
    assert message in str(error.value)
    assert attempts == []


def test_a_network_is_named() -> None:
    with pytest.raises(ParamsError, match="missing a required argument: 'model_name'"):
        Model({"nn_module": "timm", "device": "cpu"})


def test_a_value_that_a_network_refuses_is_told() -> None:
    with pytest.raises(BuildError, match="nn_module 'timm' cannot be built from .*TypeError"):
        Model(params(in_chans=[3]))
