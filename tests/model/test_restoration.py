"""A network that is built without initial values and loaded equals, in all that it has, the usual one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from networks import same_weights
from odd_networks import DRAW_NOTHING, DRAW_NUMBERS
from restored import differences, draws_numbers, load_both_ways
from torch import nn
from torch_layers import LAYERS, NOT_CALLED_ONCE_LOADED, outputs

import argus_core
from argus_core import BuildError, Model, load_model
from argus_core.registry.registry import components

INSTALLED = components("nn_module")
# What the networks of plugins need; one that is not here is built without parameters.
PARAMS = {"argus-example/cnn": {"classes": 3}}

pytestmark = pytest.mark.usefixtures("net_registry")


def saved(build: Any, path: Path, arguments: Any = ()) -> Path:
    """Save a network as no constructor leaves it."""
    argus_core.register("nn_module", "layer", build)
    model = Model({"nn_module": "layer", "device": "cpu"})
    if arguments:
        outputs(model.nn_module, arguments)  # gives a lazy one its shapes
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in model.get_nn_module().state_dict().values():
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    model.save(path)
    return path


def test_every_module_class_of_torch_is_in_the_table() -> None:
    classes = {
        name for name, value in vars(nn).items() if isinstance(value, type) and issubclass(value, nn.Module)
    }
    assert set(LAYERS) == classes


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_of_torch_is_as_if_its_initial_values_had_been_drawn(name: str, tmp_path: Path) -> None:
    layer = LAYERS[name]
    fast, slow = load_both_ways(saved(layer.build, tmp_path / "a.safetensors", layer.arguments()))
    assert differences(fast.nn_module, slow.nn_module) == []
    if layer.inputs and name not in NOT_CALLED_ONCE_LOADED:
        results = [outputs(model.nn_module, layer.arguments()) for model in (fast, slow)]
        assert all(map(torch.equal, *results))


@pytest.mark.parametrize("name", [name for name in LAYERS if list(LAYERS[name].build().parameters())])
def test_a_layer_of_torch_draws_no_initial_values(name: str, tmp_path: Path) -> None:
    layer = LAYERS[name]
    assert not draws_numbers(saved(layer.build, tmp_path / "a.safetensors", layer.arguments()))


@pytest.mark.parametrize("component", INSTALLED, ids=lambda component: component.qualified_name)
def test_a_network_of_a_plugin_is_as_if_its_initial_values_had_been_drawn(
    component: argus_core.Component, tmp_path: Path
) -> None:
    params = PARAMS.get(component.qualified_name, {})
    path = saved(lambda: component.load()(**params), tmp_path / "a.safetensors")
    fast, slow = load_both_ways(path)
    assert differences(fast.nn_module, slow.nn_module) == []


@pytest.mark.parametrize("name", [*DRAW_NOTHING, *DRAW_NUMBERS])
def test_a_network_is_as_if_its_initial_values_had_been_drawn(name: str, tmp_path: Path) -> None:
    build = (DRAW_NOTHING | DRAW_NUMBERS)[name]
    fast, slow = load_both_ways(saved(build, tmp_path / "a.safetensors"))
    assert differences(fast.nn_module, slow.nn_module) == []


@pytest.mark.parametrize("name", DRAW_NOTHING)
def test_a_network_whose_initial_values_are_all_overwritten_draws_none(name: str, tmp_path: Path) -> None:
    assert not draws_numbers(saved(DRAW_NOTHING[name], tmp_path / "a.safetensors"))


@pytest.mark.parametrize("name", DRAW_NUMBERS)
def test_a_network_that_needs_initial_values_draws_them(name: str, tmp_path: Path) -> None:
    assert draws_numbers(saved(DRAW_NUMBERS[name], tmp_path / "a.safetensors"))


class TakesItsConfigurationApart(nn.Module):
    """Needs its initial values, and empties the configuration that it gets."""

    def __init__(self, config: dict[str, int]) -> None:
        super().__init__()
        self.linear = nn.Linear(config.pop("width"), 2)
        self.first = self.linear.weight.detach().clone()


def test_a_constructor_that_is_called_again_gets_the_same_configuration(tmp_path: Path) -> None:
    argus_core.register("nn_module", "apart", TakesItsConfigurationApart)
    model = Model({"nn_module": ("apart", {"config": {"width": 4}}), "device": "cpu"})
    model.params["nn_module"][1]["config"]["width"] = 4
    model.save(tmp_path / "a.safetensors")
    assert same_weights(load_model(tmp_path / "a.safetensors"), model)


def test_a_constructor_that_needs_no_values_is_called_once(tmp_path: Path) -> None:
    calls = []

    def build() -> nn.Module:
        calls.append("built")
        return nn.Linear(4, 3)

    path = saved(build, tmp_path / "a.safetensors")
    calls.clear()
    load_model(path)
    assert calls == ["built"]


def test_a_model_that_is_not_loaded_draws_its_initial_values() -> None:
    argus_core.register("nn_module", "layer", lambda: nn.Linear(4, 3))
    torch.manual_seed(0)
    expected = nn.Linear(4, 3)
    torch.manual_seed(0)
    model = Model({"nn_module": "layer", "device": "cpu"})
    assert torch.equal(model.nn_module.weight, expected.weight)


class Headed(Model):
    """Adds a layer once its parts are built."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.nn_module.add_module("head", nn.Linear(3, 2))


def test_layers_that_the_models_class_adds_get_their_state(tmp_path: Path) -> None:
    argus_core.register("model", "Headed", Headed)
    model = Headed({"nn_module": "net", "device": "cpu"})
    model.save(tmp_path / "a.safetensors")
    assert same_weights(load_model(tmp_path / "a.safetensors"), model)


class Again(Model):
    """Initialises its network again once its parts are built."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        for parameter in self.nn_module.parameters():
            parameter.data.fill_(7.0)


def test_values_that_the_models_class_sets_are_overwritten(tmp_path: Path) -> None:
    argus_core.register("model", "Again", Again)
    model = Again({"nn_module": "net", "device": "cpu"})
    torch.nn.init.ones_(model.nn_module.out.weight)
    model.save(tmp_path / "a.safetensors")
    assert same_weights(load_model(tmp_path / "a.safetensors"), model)


class OwnBuild(Model):
    """Builds its network in its own way."""

    def build_nn_module(self, factory: Any, params: Any) -> nn.Module:
        return nn.DataParallel(nn.Sequential(super().build_nn_module(factory, params), nn.Linear(3, 2)))


def test_a_class_that_builds_its_network_itself_is_obeyed_and_draws_nothing(tmp_path: Path) -> None:
    argus_core.register("model", "OwnBuild", OwnBuild)
    model = OwnBuild({"nn_module": "net", "device": "cpu"})
    model.save(tmp_path / "a.safetensors")
    assert same_weights(load_model(tmp_path / "a.safetensors"), model)
    assert not draws_numbers(tmp_path / "a.safetensors")


class BuildsNothing(Model):
    """Forgets to return its network."""

    forgets = False

    def build_nn_module(self, factory: Any, params: Any) -> Any:
        return None if self.forgets else super().build_nn_module(factory, params)


def test_a_class_that_builds_no_network_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argus_core.register("model", "BuildsNothing", BuildsNothing)
    BuildsNothing({"nn_module": "net", "device": "cpu"}).save(tmp_path / "a.safetensors")
    monkeypatch.setattr(BuildsNothing, "forgets", True)
    with pytest.raises(BuildError, match="build_nn_module, must return a torch.nn.Module"):
        load_model(tmp_path / "a.safetensors")


def _pair(tie: bool) -> nn.Module:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    if tie:
        module[1].weight = module[0].weight
    return module


@pytest.mark.parametrize("tie", [False, True])
def test_weights_that_were_tied_otherwise_load_as_into_any_network(tie: bool, tmp_path: Path) -> None:
    argus_core.register("nn_module", "pair", _pair)
    model = Model({"nn_module": ("pair", {"tie": not tie}), "device": "cpu"})
    model.save(tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "a.safetensors", nn_module={"tie": tie})
    expected = _pair(tie)
    expected.load_state_dict(model.nn_module.state_dict())
    assert differences(loaded.nn_module, expected.eval()) == []


def test_a_network_whose_loading_swaps_tensors_loads(
    tmp_path: Path,
) -> None:
    path = saved(lambda: nn.Linear(4, 3), tmp_path / "a.safetensors")
    expected = load_model(path)
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        loaded = load_model(path)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    assert same_weights(loaded, expected)


def test_the_file_of_pytorch_argus_draws_no_initial_values_either(tmp_path: Path) -> None:
    model = Model({"nn_module": "net", "device": "cpu"})
    state = {"model_name": "Model", "params": model.params, "nn_state_dict": model.nn_module.state_dict()}
    torch.save(state, tmp_path / "old.pth")
    assert not draws_numbers(tmp_path / "old.pth")
    assert same_weights(load_model(tmp_path / "old.pth"), model)


def test_the_network_gets_its_state_before_the_optimizer_sees_it(tmp_path: Path) -> None:
    class Slow(torch.optim.SGD):
        def __init__(self, params: Any, lr: float = 0.1) -> None:
            super().__init__(params, lr)
            self.first = [parameter.detach().clone() for parameter in self.param_groups[0]["params"]]

    argus_core.register("optimizer", "slow", Slow)
    model = Model({"nn_module": "net", "optimizer": "slow", "device": "cpu"})
    model.save(tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "a.safetensors")
    assert all(map(torch.equal, loaded.optimizer.first, loaded.nn_module.parameters()))
