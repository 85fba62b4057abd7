from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torchvision import models

from argus_core import BuildError, Model, ParamsError, load_model, resolve
from argus_core.registry.factory import initial_values
from argus_torchvision.models import network
from argus_torchvision.weights import enums_of

NAMES = models.list_models()
# It runs a batch while it is built, to see the sizes of its features.
RUNS_WHILE_BUILT = {"ssdlite320_mobilenet_v3_large"}

# Some that are small enough to be trained, saved and loaded here; what they are fed.
IMAGES = (2, 3, 64, 64)
TRAINED = {
    "densenet121": IMAGES,
    "mc3_18": (2, 3, 4, 32, 32),
    "mnasnet0_5": IMAGES,
    "mobilenet_v2": IMAGES,
    "mobilenet_v3_small": IMAGES,
    "quantized_mobilenet_v2": IMAGES,
    "regnet_x_400mf": IMAGES,
    "resnet18": IMAGES,
    "shufflenet_v2_x0_5": IMAGES,
    "squeezenet1_1": IMAGES,
}
SEVERAL_OUTPUTS = {
    "deeplabv3_mobilenet_v3_large": (IMAGES, (2, 64, 64)),
    "googlenet": (IMAGES, (2,)),
}
SMALL = "shufflenet_v2_x0_5"
SMALL_FILE = "shufflenetv2_x0.5-f707e7126e.pth"


@pytest.fixture
def without_memory() -> Iterator[None]:
    """Let networks be built whose parameters have no memory: only so are all of them small enough."""

    def move(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        return None if parameter is None else nn.Parameter(parameter.to("meta"), parameter.requires_grad)

    handle = register_module_parameter_registration_hook(move)
    yield
    handle.remove()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, dict[str, Tensor]], None]:
    """Put a state where torchvision keeps the weights that it has fetched before."""
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)

    def keep(name: str, state: dict[str, Tensor]) -> None:
        torch.save(state, folder / name)

    return keep


def params(name: str, **more: Any) -> dict[str, Any]:
    return {
        "nn_module": (name, {"num_classes": 3, **more}),
        "loss": "CrossEntropyLoss",
        "optimizer": ("SGD", {"lr": 0.01}),
        "device": "cpu",
    }


def same(one: Model, other: Model) -> bool:
    ours, theirs = one.nn_module.state_dict(), other.nn_module.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.usefixtures("without_memory")
@pytest.mark.parametrize("name", sorted({*NAMES} - RUNS_WHILE_BUILT))
def test_every_network_with_weights_is_built_by_name_to_be_loaded_without_a_fetch(
    name: str, attempts: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    parameters = enums_of(models.get_model_builder(name), quantized=False)
    assert "weights" in parameters
    for parameter in parameters:
        with initial_values(wanted=False):
            built = network(name)(**{parameter: "DEFAULT"})
        assert next(built.parameters()).is_meta
    assert attempts == []


@pytest.mark.parametrize("parameter", [{}, {"weights": "DEFAULT"}, {"weights_backbone": "DEFAULT"}])
def test_a_network_that_runs_while_it_is_built_is_built_by_name(
    parameter: dict[str, str], attempts: list[Any]
) -> None:
    with initial_values(wanted=False):
        assert isinstance(network("ssdlite320_mobilenet_v3_large")(**parameter), nn.Module)
    assert attempts == []


@pytest.mark.parametrize("name", TRAINED)
def test_a_small_network_is_trained_saved_and_loaded(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Model(params(name))
    batch = torch.rand(TRAINED[name]), torch.tensor([0, 2])
    before = {key: value.clone() for key, value in model.nn_module.named_parameters()}
    assert model.train_step(batch)["loss"] > 0
    assert not all(torch.equal(before[key], value) for key, value in model.nn_module.named_parameters())
    model.save(tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "a.safetensors")
    assert same(loaded, model)
    assert torch.equal(loaded.predict(batch[0]), model.predict(batch[0]))


@pytest.mark.parametrize("name", SEVERAL_OUTPUTS)
def test_a_network_of_several_outputs_is_trained_saved_and_loaded(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    more = {"aux_logits" if name == "googlenet" else "aux_loss": True}
    choices = {"loss": ("auxiliary", {"weight": 0.3}), "prediction_transform": "main_output"}
    model = Model({**params(name, **more), **choices})
    images, labels = SEVERAL_OUTPUTS[name]
    batch = torch.rand(images), torch.randint(3, labels)
    assert model.train_step(batch)["prediction"].shape == (2, 3, *labels[1:])
    model.save(tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "a.safetensors")
    assert same(loaded, model)
    assert torch.equal(loaded.predict(batch[0]), model.predict(batch[0]))


def test_initial_values_that_a_file_overwrites_are_not_drawn(tmp_path: Path) -> None:
    Model(params("resnet18", weights=None)).save(tmp_path / "a.safetensors")
    before = torch.get_rng_state()
    load_model(tmp_path / "a.safetensors")
    assert torch.equal(before, torch.get_rng_state())


def test_backbones_have_random_weights_unless_others_are_named(attempts: list[Any]) -> None:
    network("lraspp_mobilenet_v3_large")()
    assert attempts == []


def test_weights_are_fetched_where_a_model_is_built_to_be_trained(hub: Any, attempts: list[Any]) -> None:
    state = {key: value + 1 for key, value in network(SMALL)().state_dict().items()}
    hub(SMALL_FILE, state)
    built = network(SMALL)(weights="IMAGENET1K_V1").state_dict()
    assert all(torch.equal(built[key], state[key]) for key in state)
    assert attempts == []  # they had been fetched before


def test_weights_for_other_classes_leave_the_last_layer_as_it_is(
    hub: Any, caplog: pytest.LogCaptureFixture
) -> None:
    state = network(SMALL)().state_dict()
    hub(SMALL_FILE, state)
    with caplog.at_level("INFO"):
        built = network(SMALL)(weights="DEFAULT", num_classes=7).state_dict()
    assert built["fc.weight"].shape == (7, 1024)
    assert all(torch.equal(built[key], state[key]) for key in state if not key.startswith("fc."))
    assert "ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1: fc.weight, fc.bias keep their initial" in caplog.text


def test_weights_of_another_network_are_refused(hub: Any) -> None:
    hub(SMALL_FILE, network("shufflenet_v2_x1_0")().state_dict())
    with pytest.raises(RuntimeError, match="size mismatch"):
        network(SMALL)(weights="DEFAULT", num_classes=7)


def test_a_model_with_weights_is_loaded_with_the_network_cut(
    hub: Any, attempts: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub(SMALL_FILE, network(SMALL)().state_dict())
    model = Model(params(SMALL, weights="DEFAULT"))
    model.save(tmp_path / "a.safetensors")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "elsewhere"))
    loaded = load_model(tmp_path / "a.safetensors")
    assert same(loaded, model)
    unchanged = load_model(tmp_path / "a.safetensors", change_state_dict_func=lambda *states: states)
    assert same(unchanged, model)
    assert attempts == []


def test_weights_that_cannot_be_fetched_are_told(attempts: list[Any], tmp_path: Path, hub: Any) -> None:
    with pytest.raises(
        BuildError,
        match=r"weights ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1 cannot be downloaded from .*; connect",
    ):
        Model(params(SMALL, weights="DEFAULT"))
    assert attempts


def test_a_network_is_what_torchvision_builds_for_its_weights(without_memory: None) -> None:
    with initial_values(wanted=False):
        googlenet = network("googlenet")(weights="DEFAULT")
        detector = network("fasterrcnn_resnet50_fpn")(weights="COCO_V1", num_classes=5)
    assert googlenet.transform_input
    assert googlenet.aux1 is None
    norm = detector.backbone.body.bn1
    assert (type(norm).__name__, norm.eps) == ("FrozenBatchNorm2d", 0.0)
    assert detector.roi_heads.box_predictor.cls_score.out_features == 5


@pytest.mark.parametrize("name", ["IMAGENET1K_V2", "ResNet50_Weights.IMAGENET1K_V2", "DEFAULT"])
def test_weights_may_be_named_in_several_ways(name: str, without_memory: None) -> None:
    with initial_values(wanted=False):
        assert network("resnet50")(weights=name).fc.out_features == 1000


def test_the_weights_of_a_quantized_network_are_others() -> None:
    builder = models.get_model_builder("quantized_resnet18")
    names = [enums_of(builder, quantized)["weights"].__name__ for quantized in (False, True)]
    assert names == ["ResNet18_Weights", "ResNet18_QuantizedWeights"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"weights": "IMAGNET1K_V1"},
            "no weights 'IMAGNET1K_V1'; did you mean 'IMAGENET1K_V1'?; choose 'IM",
        ),
        ({"weights": True}, "'resnet18' has no weights True; choose 'IMAGENET1K_V1', 'DEFAULT'"),
        (
            {"pretrained": True},
            "pretrained of nn_module 'resnet18' is True; name the weights instead: weights=",
        ),
        ({"num_clases": 10}, "nn_module 'resnet18' does not take 'num_clases'; did you mean 'num_classes'"),
        ({"zzz": 10}, "nn_module 'resnet18' does not take 'zzz'; it takes weights, progress, block, layers"),
    ],
)
def test_parameters_that_are_wrong_are_told_in_a_sentence(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError) as error:
        Model({"nn_module": ("resnet18", given), "device": "cpu"})
    assert message in str(error.value)


def test_a_value_that_a_network_refuses_is_told() -> None:
    with pytest.raises(BuildError, match="'resnet18' cannot be built from .*BasicBlock only supports"):
        Model({"nn_module": ("resnet18", {"width_per_group": 4}), "device": "cpu"})


def test_a_name_that_torchvision_does_not_have_is_no_attribute() -> None:
    from argus_torchvision import models as module

    with pytest.raises(AttributeError, match="has no attribute 'resnet19'"):
        _ = module.resnet19


def test_a_network_has_the_signature_of_its_builder() -> None:
    import inspect

    shown = inspect.signature(resolve("nn_module", "fcn_resnet50").load()).parameters
    assert (shown["weights"].default, shown["weights_backbone"].default) == (None, None)
    assert "num_classes" in shown
